"""Bounds, cancellation, deadlines and a stop with grace, each against a server that runs."""

from __future__ import annotations

import gc
import json
import logging
import os
import re
import socket
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from icl_engine.answering import VoteRequest
from icl_engine.language_model import Generation
from icl_engine.scripted_model import ScriptedModel
from icl_engine.task import Task, Value
from policies.stages import Stage
from router.router import Router
from router.serve.server import forget_what_is_loaded
from router.settings import Settings
from tests.models import CONSTANT_TASK, tiny_model
from tests.router.serve.serving import LAB, OTHER, Held, Running, serving, shouting, text, until
from tests.router.test_steps import StagedPolicy

LONG: dict[str, Any] = {"ttt_steps": 100_000, "ttt_token_budget": 10**9, "ttt_rank": 2, "n_views": 2}
CONSTANT = CONSTANT_TASK.model_dump(mode="json", exclude_none=True)


@contextmanager
def asking(running: Running, n: int = 1, key: str = LAB, **request: Any) -> Iterator[list[Any]]:
    """Ask to solve the task that waits, n times at once; at the end the answers are in the list."""
    answers: list[Any] = []
    with ThreadPoolExecutor(n) as pool, running.client(key) as client:
        body = {"json": {"tasks": [text("wait")]}, **request}
        asked = [pool.submit(client.post, "/v1/solve", **body) for _ in range(n)]
        yield answers
        answers += [each.result(30) for each in asked]


def test_what_is_too_much_is_refused_while_health_and_decisions_go_on(tmp_path: Path) -> None:
    held = Held()
    with serving(tmp_path, held, serve_workers=2, serve_queue=1) as running, running.client() as lab:
        with asking(running, 3) as answers:
            held.wait_begun()
            until(lambda: running.service.n_running + running.service.n_waiting == 3, "the three were not taken")
            refused = lab.post("/v1/solve", json={"tasks": [text()]})
            decided = lab.post("/v1/decide", json={"task": text()})
            healthy = lab.get("/health")
            held.go.set()
        taken_again = lab.post("/v1/solve", json={"tasks": [text()]})

    assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
    assert int(refused.headers["retry-after"]) >= 1
    assert (decided.status_code, healthy.status_code) == (200, 200)
    assert [answer.status_code for answer in answers] == [200] * 3
    assert taken_again.status_code == 200


def test_a_request_of_more_tasks_than_there_is_room_for_now_is_refused_whole(tmp_path: Path) -> None:
    held = Held()
    with serving(tmp_path, held, serve_workers=1, serve_queue=1) as running, running.client() as lab:
        with asking(running):
            held.wait_begun()
            refused = lab.post("/v1/solve", json={"tasks": [text()] * 2})
            held.go.set()

        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        assert running.solves() == 1


def test_a_request_of_more_tasks_than_there_ever_is_room_for_is_not_to_be_asked_again(tmp_path: Path) -> None:
    with serving(tmp_path, serve_workers=1, serve_queue=1) as running, running.client() as lab:
        refused = lab.post("/v1/solve", json={"tasks": [text()] * 3})

        assert (refused.status_code, refused.json()["field"]) == (422, "tasks")
        assert "At most 2" in refused.json()["remedy"]
        assert running.solves() == 0


def begun(running: Running, path: str, declared: int, sent: bytes = b"", key: str = LAB) -> socket.socket:
    """A request that says how long its body is, and sends only some of it."""
    host, port = running.url.removeprefix("http://").split(":")
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
    connection = socket.create_connection((host, int(port)), timeout=10)
    connection.sendall(f"{head}Content-Length: {declared}\r\n\r\n".encode() + sent)
    return connection


def test_where_there_is_no_room_no_body_is_read(tmp_path: Path) -> None:
    held = Held()
    with serving(tmp_path, held, serve_workers=1, serve_queue=0) as running, asking(running):
        held.wait_begun()
        with begun(running, "/v1/solve", declared=2**20) as connection:
            said = connection.recv(4096)
        held.go.set()

    assert said.startswith(b"HTTP/1.1 503")


def test_bodies_that_are_read_at_the_same_time_are_bounded_together(tmp_path: Path) -> None:
    with serving(tmp_path, serve_body_bytes=2**10) as running, running.client() as lab:
        slow = [begun(running, "/v1/solve", declared=2**10, key=key) for key in (LAB, OTHER) for _ in range(4)]
        until(lambda: running.service._n_reading_bytes.total() == 2**13, "they are not being read")
        refused = lab.post("/v1/solve", json={"tasks": [text()]})
        for connection in slow:
            connection.close()
        until(lambda: running.service._n_reading_bytes.total() == 0, "something is held for those who have gone")
        taken = lab.post("/v1/solve", json={"tasks": [text()]})

    assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
    assert taken.status_code == 200


def test_a_tenant_whose_bodies_do_not_come_leaves_room_for_those_of_others(tmp_path: Path) -> None:
    with serving(tmp_path, serve_body_bytes=2**10) as running, running.client(OTHER) as other:
        slow = [begun(running, "/v1/solve", declared=2**10) for _ in range(8)]
        until(lambda: running.service._n_reading_bytes.total() == 2**12, "they are not being read")
        taken = other.post("/v1/solve", json={"tasks": [text()]})
        for connection in slow:
            connection.close()

    assert taken.status_code == 200


def test_whoever_goes_while_its_body_is_read_leaves_nothing_behind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(tmp_path, serve_workers=1, serve_queue=0) as running, running.client() as lab:
        begun(running, "/v1/solve", declared=100, sent=b'{"tasks": ').close()
        until(lambda: b'code="body_refused"' in running.service.metrics.text(), "nobody has noticed")
        after = lab.post("/v1/solve", json={"tasks": [text()]})

    assert after.status_code == 200
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_requests_that_wait_together_are_probed_together(tmp_path: Path) -> None:
    held = Held()
    with serving(tmp_path, held) as running, running.client() as lab:
        together: list[int] = []
        steps = running.service.tenants.router("lab").steps
        probe_together = steps.prober.probe_together

        def noted(tasks: Any, **options: Any) -> Any:
            together.append(len(tasks))
            return probe_together(tasks, **options)

        steps.prober.probe_together = noted  # type: ignore[method-assign]
        with asking(running) as answers:
            held.wait_begun()
            with ThreadPoolExecutor(4) as pool:
                others = [pool.submit(lab.post, "/v1/solve", json={"tasks": [text(q)]}) for q in "abcd"]
                until(lambda: running.service.lanes.probing.n_waiting == 4, "the others do not wait")
                held.go.set()
                values = [o.result(20).json()["results"][0]["solution"]["answers"][0]["value"] for o in others]

    assert together == [1, 4]
    assert values == ["A", "B", "C", "D"]
    assert answers[0].status_code == 200


def test_trainings_that_wait_together_are_trained_together_and_keep_nobody_from_a_prompt(tmp_path: Path) -> None:
    tasks = [{**CONSTANT, "queries": [[n, 1]]} for n in range(3)]
    for n, task in enumerate(tasks):  # three adapters, not one
        task["demonstrations"] = [*CONSTANT["demonstrations"], {"input": [n, n], "output": [0, 0]}]
    taught: dict[str, Any] = {"ttt_steps": 20, "ttt_rank": 4, "ttt_alpha": 8.0, "ttt_learning_rate": 3e-2, "n_views": 2}
    with serving(tmp_path, tiny_model(), **taught) as running, running.client() as lab:
        lock = running.service.tenants.router("lab").steps.ttt.model.lock  # type: ignore[union-attr]
        with lock, ThreadPoolExecutor(3) as pool:
            training = running.service.lanes.training
            asked = [pool.submit(lab.post, "/v1/solve", json={"tasks": [task], "arm": "ttt"}) for task in tasks[:1]]
            until(lambda: training._thread is not None and not training.n_waiting, "the first is not begun with")
            asked += [pool.submit(lab.post, "/v1/solve", json={"tasks": [task], "arm": "ttt"}) for task in tasks[1:]]
            until(lambda: training.n_waiting == 2, "they do not wait together")
            prompt = lab.post("/v1/solve", json={"tasks": [CONSTANT], "arm": "icl"})
            decided = lab.post("/v1/decide", json={"task": CONSTANT})
            lock.release()
            answers = [each.result(60) for each in asked]
            lock.acquire()
        trace_id = answers[0].json()["results"][0]["solution"]["trace_id"]
        archive = lab.get(f"/v1/adapters/{trace_id}")

    assert (prompt.status_code, decided.status_code) == (200, 200)
    assert [a.json()["results"][0]["solution"]["answered_by"] for a in answers] == ["ttt"] * 3
    assert archive.headers["content-type"] == "application/zip"
    _is_a_peft_folder(archive.content)


def _is_a_peft_folder(content: bytes) -> None:
    import io
    import zipfile

    from safetensors.torch import load

    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert sorted(archive.namelist()) == ["adapter_config.json", "adapter_model.safetensors"]
        assert all(name.startswith("base_model.model.") for name in load(archive.read("adapter_model.safetensors")))


@pytest.mark.parametrize("how", ["the connection is closed", "the job is deleted"])
def test_what_nobody_wants_any_more_stops_within_a_step_and_its_place_is_free(tmp_path: Path, how: str) -> None:
    with serving(tmp_path, tiny_model(), serve_workers=1, serve_queue=0, **LONG) as running, running.client() as lab:
        body = {"tasks": [CONSTANT], "arm": "ttt"}
        if how == "the job is deleted":
            place = lab.post("/v1/solve", json=body, headers={"Prefer": "respond-async"}).headers["Location"]
            with lab.stream("GET", place, headers={"Accept": "text/event-stream"}) as stream:
                _rest = _wait_for_steps(stream, 3)
            lab.delete(place)
        else:
            with lab.stream("POST", "/v1/solve", json=body, headers={"Accept": "text/event-stream"}) as stream:
                _rest = _wait_for_steps(stream, 3)
        until(lambda: running.service.n_running == 0, "it is still at work")  # all of its steps would take minutes
        again = lab.post("/v1/solve", json={"tasks": [CONSTANT], "arm": "icl"})
        lock = running.service.tenants.router("lab").steps.ttt.model.lock  # type: ignore[union-attr]
        until(lambda: lock.acquire(blocking=False), "the model is still held")
        lock.release()

        assert again.status_code == 200
        assert running.solves() == 1  # what was cancelled is not recorded


def _wait_for_steps(stream: httpx.Response, n: int) -> Iterator[str]:
    """Read until so many steps are trained; return what is not read yet: without it the connection would be closed."""
    seen, lines = 0, stream.iter_lines()
    for line in lines:
        seen += '"step": "adapt"' in line
        if seen > n:
            return lines
    raise AssertionError("the stream ended")


def test_cancelled_before_any_step_of_the_graph_nothing_is_left_behind(tmp_path: Path) -> None:
    """Each step in turn is the one before which whoever asked goes away."""
    steps = ["admit", "probe", "lookup", "look_closer", "decide", "answer_icl", "verify", "record"]
    with serving(tmp_path, serve_workers=1, serve_queue=0) as running:
        service, told = running.service, list[str]()
        for step in steps:
            gone = threading.Event()
            told.clear()

            def progress(name: str, done: int, of: int, *, at: str = step, gone: threading.Event = gone) -> None:
                told.append(name)
                if name == at:
                    gone.set()

            router = service.tenants.router("lab")
            task = Task.parse(text())
            before = running.solves()
            if step == "record":  # it has begun: what is done is done
                router.solve_among(task, service.lanes, cancelled=gone.is_set, progress=progress)
                assert running.solves() == before + 1
            else:
                with pytest.raises(Exception, match="cancelled"):
                    router.solve_among(task, service.lanes, cancelled=gone.is_set, progress=progress)
                assert running.solves() == before
            assert told[-1] == step
            assert service.lanes.training.n_waiting == service.lanes.probing.n_waiting == 0
        with running.client() as lab:
            assert lab.post("/v1/solve", json={"tasks": [text()]}).status_code == 200


class HeldLater(Held):
    """A script that answers the first time it is asked, and then when it is let."""

    def __call__(self, task: Task) -> Value:
        if task.query == "wait" and not self.n:
            self.n += 1
            return shouting(task)
        return super().__call__(task)


def decided_by(running: Running, policy: StagedPolicy) -> None:
    """Let a policy of a test's own decide for the tenant, among the arms that need no training."""
    tenants, settings = running.service.tenants, running.service.settings
    own = settings.model_copy(update={"tenant": "lab", "learning": "off", "arms": ("icl", "icl_vote")})
    tenants._routers["lab"] = Router(own, model=tenants._base.model, policy=policy, ledger=running.ledger)


PROMPTED: dict[str, dict[str, Any]] = {  # after the first prompt, which is the probe
    "looking closer": {},
    "voting": {"arm": "icl_vote"},
    "without demonstrations": {"arm": "zero_shot"},
}


@pytest.mark.parametrize("during", PROMPTED)
def test_cancelled_during_a_prompt_its_place_is_free_before_that_ends_and_is_paid_for(
    tmp_path: Path, during: str
) -> None:
    held, paid = HeldLater(), list[float]()
    with serving(tmp_path, held, serve_workers=1, serve_queue=0) as running, running.client() as lab:
        running.service.allowances.computed = lambda tenant, seconds: paid.append(seconds)  # type: ignore[method-assign]
        decided_by(running, StagedPolicy("icl", (Stage.VOTES,)))
        body = {"tasks": [{**text("wait"), "instruction": "Shout."}], **PROMPTED[during]}
        job = lab.post("/v1/solve", json=body, headers={"Prefer": "respond-async"}).headers["Location"]
        held.wait_begun()
        time.sleep(0.2)
        lab.delete(job)
        until(lambda: running.service.n_running == 0, "it still has its place")
        held.go.set()
        until(lambda: sum(paid) > 0.2, "nobody has paid")
        lanes = running.service.lanes

        assert lanes.probing.n_waiting == lanes.training.n_waiting == 0
        assert lab.post("/v1/solve", json={"tasks": [text()], "arm": "icl"}).status_code == 200
        assert running.solves() == 1


@pytest.mark.parametrize("arm", ["icl_vote", "zero_shot"])
def test_a_deadline_that_passes_during_a_second_prompt_gives_the_answer_in_context(tmp_path: Path, arm: str) -> None:
    held = HeldLater()
    with serving(tmp_path, held) as running, running.client() as lab:
        lab.post("/v1/solve", json={"tasks": [text()], "arm": "icl"})  # loads what is slow to load
        body = {"tasks": [{**text("wait"), "instruction": "Shout."}], "arm": arm, "deadline_s": 1.5}
        solution = lab.post("/v1/solve", json=body).json()["results"][0]["solution"]
        held.go.set()

    assert (solution["answered_by"], solution["answers"][0]["value"]) == ("icl", "WAIT")
    assert "deadline reached" in solution["degraded"][0]


def test_votes_that_wait_together_are_asked_together(tmp_path: Path) -> None:
    """Three votes, asked for while a prompt holds the model, are one call of it."""
    together: list[set[Value]] = []

    class Noting(ScriptedModel):
        def generate(self, tasks: Sequence[Task], **options: Any) -> list[Generation]:
            together.append({task.query for task in tasks})
            return super().generate(tasks, **options)

    held = HeldLater()
    with serving(tmp_path, Noting(held)) as running, running.client() as lab, ThreadPoolExecutor(4) as pool:
        lane, steps = running.service.lanes.probing, running.service.tenants.router("lab").steps
        pool.submit(lab.post, "/v1/solve", json={"tasks": [text("wait")], "arm": "icl_vote"})
        held.wait_begun()
        tasks = [Task.parse(text(query)) for query in "def"]
        requests = [VoteRequest(task, steps.prober.probe(task).asked) for task in tasks]
        asked = [pool.submit(lane.seat().ask, steps._all_by_vote, each) for each in requests]
        until(lambda: lane.n_waiting == 3, "they do not wait")
        held.go.set()
        values = [each.result(20)[0].value for each in asked]

    assert values == ["D", "E", "F"]
    assert {"d", "e", "f"} in together


def test_views_that_a_policy_asks_for_do_not_wait_for_training(tmp_path: Path) -> None:
    with serving(tmp_path, tiny_model(), **LONG) as running, running.client(OTHER) as other:
        decided_by(running, StagedPolicy("icl", (Stage.VOTES,)))
        training: dict[str, Any] = {
            "json": {"tasks": [CONSTANT], "arm": "ttt"},
            "headers": {"Accept": "text/event-stream"},
        }
        with other.stream("POST", "/v1/solve", **training) as stream, running.client() as lab:
            _rest = _wait_for_steps(stream, 1)
            answer = lab.post("/v1/solve", json={"tasks": [CONSTANT]}, timeout=10)

    solution = answer.json()["results"][0]["solution"]
    assert solution["answered_by"] == "icl"
    assert "look closer" not in " ".join(solution["degraded"])


def test_cancelled_while_the_trained_answer_is_waited_for_its_place_is_free(tmp_path: Path) -> None:
    few: dict[str, Any] = {"ttt_steps": 2, "ttt_rank": 2, "n_views": 2}
    with serving(tmp_path, tiny_model(), serve_workers=1, serve_queue=0, **few) as running, running.client() as lab:
        engine = running.service.tenants.router("lab").steps.ttt
        assert engine is not None
        answer, answering, go = engine.answer_many, threading.Event(), threading.Event()

        def held(requests: Any) -> Any:
            answering.set()
            assert go.wait(20)
            return answer(requests)

        engine.answer_many = held  # type: ignore[method-assign]
        body = {"tasks": [CONSTANT], "arm": "ttt"}
        job = lab.post("/v1/solve", json=body, headers={"Prefer": "respond-async"}).headers["Location"]
        assert answering.wait(20)
        lab.delete(job)
        until(lambda: running.service.n_running == 0, "it still has its place")
        again = lab.post("/v1/solve", json={"tasks": [CONSTANT], "arm": "icl"})
        go.set()

        assert again.status_code == 200
        assert running.solves() == 1


def test_cancelled_while_it_waits_for_anothers_training_it_leaves_that_alone(tmp_path: Path) -> None:
    with serving(tmp_path, tiny_model(), serve_workers=2, serve_queue=0, **LONG) as running, running.client() as lab:
        body = {"tasks": [CONSTANT], "arm": "ttt"}
        places = []
        for n_steps in (1, 0):  # the first trains, the second gets as far as asking for the same
            job = lab.post("/v1/solve", json=body, headers={"Prefer": "respond-async"}).headers["Location"]
            with lab.stream("GET", job, headers={"Accept": "text/event-stream"}) as stream:
                _rest = _wait_for_steps(stream, n_steps)
            places.append(job)
        trains, waits = places
        time.sleep(0.2)
        lab.delete(waits)
        until(lambda: running.service.n_running == 1, "it still has its place")
        others = lab.get(trains).json()["state"]
        lab.delete(trains)
        until(lambda: running.service.n_running == 0, "the other still has its place")
        flight = running.service.tenants.router("lab").steps.ttt.flight  # type: ignore[union-attr]

        assert others == "running"
        assert flight._flights == {}
        assert running.solves() == 0


def test_a_decision_that_nobody_waits_for_any_more_is_not_made(tmp_path: Path) -> None:
    held = Held()
    body = json.dumps({"task": text("wait")}).encode()
    with serving(tmp_path, held) as running, running.client() as lab:
        asked = [begun(running, "/v1/decide", len(body), body) for _ in range(3)]
        until(lambda: running.service.n_deciding == 3, "they were not taken")
        for _ in range(2):
            held.wait_begun()
        for connection in asked:
            connection.close()
        until(lambda: running.service.n_deciding == 2, "the one that waits is still there")
        held.go.set()
        until(lambda: running.service.n_deciding == 0, "those that were made are still there")
        decided = lab.post("/v1/decide", json={"task": text()})

    assert held.n == 2
    assert decided.status_code == 200


def test_cancelled_again_and_again_nothing_piles_up(tmp_path: Path) -> None:
    def open_now() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    with serving(tmp_path, tiny_model(), serve_workers=2, serve_queue=2, **LONG) as running, running.client() as lab:
        request: dict[str, Any] = {"json": {"tasks": [CONSTANT], "arm": "ttt"}}
        service, sizes = running.service, list[tuple[int, int]]()
        for n in range(8):
            with lab.stream("POST", "/v1/solve", headers={"Accept": "text/event-stream"}, **request) as stream:
                _rest = _wait_for_steps(stream, 1)
            until(lambda: service.n_running == 0, "it is still at work")
            if n < 4:
                sizes.append(open_now())
        flight = service.tenants.router("lab").steps.ttt.flight  # type: ignore[union-attr]

        assert service.n_waiting == 0
        assert service.lanes.training.n_waiting == 0
        assert flight._flights == {}
        bounds = tuple(map(max, zip(*sizes, strict=True)))
        until(lambda: all(now <= most for now, most in zip(open_now(), bounds, strict=True)), "something piles up")
        assert list((tmp_path / "adapters").rglob("*.lease")) == []


def test_a_job_that_waits_is_dropped_at_once(tmp_path: Path) -> None:
    held = Held()
    with serving(tmp_path, held, serve_workers=1) as running, running.client() as lab, asking(running) as answers:
        held.wait_begun()
        later = lab.post("/v1/solve", json={"tasks": [text()]}, headers={"Prefer": "respond-async"})
        assert later.json()["state"] == "waiting"
        lab.delete(later.headers["Location"])
        until(lambda: lab.get(later.headers["Location"]).json()["state"] == "cancelled", "it is not cancelled")
        cancelled = lab.get(later.headers["Location"]).json()
        held.go.set()
    assert cancelled["results"][0]["problem"]["code"] == "cancelled"
    assert answers[0].status_code == 200


def test_a_deadline_that_passes_in_the_queue_is_told(tmp_path: Path) -> None:
    held = Held()
    one_worker = serving(tmp_path, held, serve_workers=1)
    with one_worker as running, running.client() as lab, asking(running), ThreadPoolExecutor(1) as pool:
        held.wait_begun()
        late = pool.submit(lab.post, "/v1/solve", json={"tasks": [text()], "deadline_s": 0.1})
        until(lambda: running.service.n_running + running.service.n_waiting == 2, "the late one was not taken")
        time.sleep(0.3)
        held.go.set()
        answer = late.result(20)

    assert (answer.status_code, answer.json()["code"]) == (504, "deadline_passed")


def test_a_deadline_that_passes_in_training_gives_the_answer_in_context(tmp_path: Path) -> None:
    with serving(tmp_path, tiny_model(), **LONG) as running, running.client() as lab:
        answer = lab.post("/v1/solve", json={"tasks": [CONSTANT], "arm": "ttt", "deadline_s": 2.0})

    solution = answer.json()["results"][0]["solution"]
    assert solution["answered_by"] == "icl"
    assert "deadline reached" in solution["degraded"][0]
    assert solution["cost"]["seconds"] < 10


@pytest.mark.alone
def test_a_training_that_the_deadline_cuts_is_told_and_charged_as_the_library_does(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"arm": "ttt", "seed": 7, "deadline_s": 2.0}
    settings = Settings(home=tmp_path / "library", **LONG)
    with Router(settings, model=tiny_model()) as router:
        alone = router.solve(CONSTANT_TASK, **asked)
    with serving(tmp_path / "service", tiny_model(), **LONG) as running, running.client() as lab:
        paid = list[float]()
        running.service.allowances.computed = lambda tenant, seconds: paid.append(seconds)  # type: ignore[method-assign]
        solution = lab.post("/v1/solve", json={"tasks": [CONSTANT], **asked}).json()["results"][0]["solution"]
        path = lab.get(f"/v1/traces/{solution['trace_id']}").json()["trace"]["path"]

    told = r"training stopped: deadline reached after [1-9]\d* of 100000 steps\. The answer in context is used instead."
    assert all(re.fullmatch(told, degraded[0]) for degraded in (alone.degraded, solution["degraded"]))
    assert solution["degraded"][1:] == [*alone.degraded[1:]]
    assert solution["cost"]["seconds"] == pytest.approx(alone.cost.seconds, rel=0.2)
    assert solution["cost"]["seconds"] == pytest.approx(sum(step["seconds"] for step in path), rel=0.2)
    assert sum(paid) == pytest.approx(solution["cost"]["seconds"], rel=0.2)


def test_a_deadline_that_passes_while_another_is_trained_does_not_wait_for_it(tmp_path: Path) -> None:
    other = {**CONSTANT, "demonstrations": CONSTANT["demonstrations"][:2]}
    with serving(tmp_path, tiny_model(), **LONG) as running, running.client() as lab, running.client() as second:
        request: dict[str, Any] = {
            "json": {"tasks": [CONSTANT], "arm": "ttt"},
            "headers": {"Accept": "text/event-stream"},
        }
        with lab.stream("POST", "/v1/solve", **request) as stream:
            _rest = _wait_for_steps(stream, 1)
            began = time.monotonic()
            answer = second.post("/v1/solve", json={"tasks": [other], "arm": "ttt", "deadline_s": 2.0})
            took_s = time.monotonic() - began

    assert answer.json()["results"][0]["solution"]["answered_by"] == "icl"
    assert "waiting for the model" in answer.json()["results"][0]["solution"]["degraded"][0]
    assert took_s < 5.0


def test_a_body_that_does_not_arrive_is_not_waited_for(tmp_path: Path) -> None:
    head = f"POST /v1/solve HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {LAB}\r\nContent-Type: application/json\r\n"
    with serving(tmp_path, serve_body_s=0.2) as running:
        host, port = running.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(head.encode() + b'Content-Length: 100\r\n\r\n{"tasks": ')
            said = connection.recv(4096)

    assert said.startswith(b"HTTP/1.1 408")


def test_a_tenant_that_asks_too_often_is_told_when_to_come_back_and_others_are_not_kept(tmp_path: Path) -> None:
    with serving(tmp_path, serve_rate=2.0) as running, running.client() as lab, running.client(OTHER) as other:
        codes = [lab.get("/v1/policy").status_code for _ in range(8)]
        refused = lab.get("/v1/policy")

        assert codes[:4] == [200] * 4
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_exceeded")
        assert refused.headers["retry-after"] == "1"
        assert other.get("/v1/policy").status_code == 200
        assert lab.get("/ready").status_code == 200


def test_a_tenant_that_has_used_its_compute_is_refused_until_there_is_more(tmp_path: Path) -> None:
    def slow(task: Task) -> Value:
        time.sleep(0.02)
        return shouting(task)

    with serving(tmp_path, slow, serve_compute_s=0.05) as running, running.client() as lab:
        first = lab.post("/v1/solve", json={"tasks": [text()]})
        until(lambda: running.service.allowances.compute_wait_s("lab") > 0, "nothing was taken off")
        refused = lab.post("/v1/solve", json={"tasks": [text()]})
        with running.client(OTHER) as other:
            others = other.post("/v1/solve", json={"tasks": [text()]})

    assert (first.status_code, others.status_code) == (200, 200)
    assert (refused.status_code, refused.json()["code"]) == (429, "compute_spent")
    assert int(refused.headers["retry-after"]) > 60
    assert "gets 0.05 s an hour" in refused.json()["detail"]


def test_a_stop_lets_what_runs_finish_and_takes_nothing_more(tmp_path: Path) -> None:
    held = Held()
    with serving(tmp_path, held) as running:
        with running.client() as kept_open, asking(running) as answers:
            kept_open.get("/health")
            held.wait_begun()
            running.stop()
            until(lambda: running.service.stopping, "it does not stop")
            health = httpx.get(running.url + "/health")
            with running.client() as lab:
                refused = lab.post("/v1/solve", json={"tasks": [text()]})
            held.go.set()
        running.thread.join(20)
        with pytest.raises(httpx.ConnectError):
            httpx.get(running.url + "/health")

    assert answers[0].status_code == 200
    assert (health.status_code, health.json()["status"]) == (503, "stopping")
    assert (refused.status_code, refused.json()["code"]) == (503, "stopping")
    assert not running.thread.is_alive()


def test_what_is_not_done_in_time_is_handed_back_and_what_was_promised_is_done_at_the_next_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ttt_router.serve")
    with serving(tmp_path, tiny_model(), serve_stop_s=0.3, **LONG) as running, running.client() as lab:
        body = {"tasks": [CONSTANT], "arm": "ttt"}
        promised = lab.post("/v1/solve", json=body, headers={"Prefer": "respond-async"}).headers["Location"]
        with asking(running, json=body) as answers:
            until(lambda: running.service.n_running == 2, "they did not begin")
            told = running.service.jobs.get("lab", promised.rpartition("/")[2])
            running.stop()
        running.thread.join(20)
    said = [record.getMessage() for record in caplog.records]
    with serving(tmp_path, tiny_model(), ttt_steps=2, ttt_rank=2, n_views=2) as again, again.client() as lab:
        until(lambda: lab.get(promised).json()["state"] == "done", "it was not taken up again")
        job = lab.get(promised).json()

    assert (answers[0].status_code, answers[0].json()["code"]) == (503, "stopping")
    assert "retry-after" in answers[0].headers
    assert (told.state, told.as_json()["results"]) == ("waiting", None)
    assert [result["problem"]["code"] for result in told.ordered_results()] == ["stopping"]
    assert job["results"][0]["solution"]["answered_by"] in ("ttt", "icl")
    assert said == [
        "stopping: 2 tasks at work, 0 waiting, up to 0.3 s",
        "stopped: 1 promised job stays on disk for the next start",
    ]


@pytest.mark.parametrize("how", ["at once", "as events"])
def test_a_request_whose_client_has_gone_is_not_noted_as_answered(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ttt_router.access")
    held, accept = Held(), {"Accept": "text/event-stream"} if how == "as events" else {}
    with serving(tmp_path, held) as running, running.client() as lab:
        with running.client() as leaving, pytest.raises(httpx.ReadTimeout):
            leaving.post("/v1/solve", json={"tasks": [text("wait")]}, headers=accept, timeout=0.5)
        until(lambda: 'route="/v1/solve",status="499"} 1.0' in lab.get("/metrics").text, "it is not noted")
        held.go.set()
        assert lab.post("/v1/solve", json={"tasks": [text()]}, headers=accept).status_code == 200
        noted = lab.get("/metrics").text
    statuses = [vars(each)["status"] for each in caplog.records if vars(each)["route"] == "/v1/solve"]

    assert statuses == [499, 200]
    assert 'route="/v1/solve",status="200"} 1.0' in noted


def test_the_garbage_collector_leaves_alone_what_was_loaded_and_takes_what_came_since() -> None:
    class Cycle:
        pass

    def cycle() -> weakref.ref[Cycle]:
        made = Cycle()
        made.itself = made  # type: ignore[attr-defined]
        return weakref.ref(made)

    try:
        forget_what_is_loaded()
        loaded, since = gc.get_freeze_count(), cycle()
        looked_at = len(gc.get_objects())
        gc.collect()
    finally:
        gc.unfreeze()

    assert loaded > 10 * looked_at
    assert since() is None
