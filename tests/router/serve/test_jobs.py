"""Promised jobs: whose folder they lie in, and what becomes of several requests for one of them."""

from __future__ import annotations

import errno
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from icl_engine.task import Limits, Task, Value
from router.errors import DeadlinePassed, OutOfMemory
from router.serve.jobs import Asked, Job
from router.serve.journal import Journal, own_folder
from tests.router.serve.serving import Held, serving, shouting, text, until

LATER = {"Prefer": "respond-async", "Idempotency-Key": "same"}
PLAIN = {"Idempotency-Key": "same"}


def test_servers_on_one_home_have_a_folder_each_and_the_next_takes_up_what_a_dead_one_has_left(tmp_path: Path) -> None:
    job = Job("lab", Asked((Task.parse(text(), Limits()),)), kept=True)
    with own_folder(tmp_path, 8770) as first:
        with own_folder(tmp_path, 8770) as second, own_folder(tmp_path, 8771) as elsewhere:
            Journal(second, Limits()).write(job)
        with own_folder(tmp_path, 8770) as third:
            (found,) = Journal(third, Limits()).read()

    assert [path.name for path in (first, second, third, elsewhere)] == ["8770", "8770.1", "8770.1", "8771"]
    assert (found.job.id, found.is_over) == (job.id, False)


@pytest.mark.parametrize("full", [False, True], ids=["kept", "disk full"])
def test_requests_under_one_key_share_one_promise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: bool) -> None:
    begun, go, promises = threading.Event(), threading.Event(), []
    write = Journal._write

    def slowly(journal: Journal, job: Job) -> None:
        if not job.results:
            promises.append(job.id)
            begun.set()
            assert go.wait(20)
            if full:
                raise OSError(errno.ENOSPC, "No space left on device")
        write(journal, job)

    monkeypatch.setattr(Journal, "_write", slowly)
    with serving(tmp_path) as running, running.client() as lab, ThreadPoolExecutor(3) as pool:

        def ask(headers: dict[str, str]) -> httpx.Response:
            return lab.post("/v1/solve", json={"tasks": [text()]}, headers=headers)

        asked = [pool.submit(ask, LATER)]
        assert begun.wait(20)
        (job,) = running.service.jobs.running()
        asked += [pool.submit(ask, LATER), pool.submit(ask, PLAIN)]
        until(lambda: job.n_waiting_for == 1, "the plain request does not wait")
        go.set()
        answers = [each.result(20) for each in asked]
        again = lab.get(f"/v1/jobs/{job.id}").status_code

    assert promises == [job.id]
    assert [answer.status_code for answer in answers] == ([503] * 3 if full else [202, 202, 200])
    assert {answer.json().get("code") for answer in answers} == {"job_not_kept" if full else None}
    assert again == (404 if full else 200)


def test_a_request_under_the_key_of_a_job_that_is_being_cancelled_is_done_anew(tmp_path: Path) -> None:
    held = Held()
    with serving(tmp_path, held) as running, running.client() as lab:
        first = lab.post("/v1/solve", json={"tasks": [text("wait")]}, headers=LATER).json()["id"]
        held.wait_begun()
        lab.delete(f"/v1/jobs/{first}")
        second = lab.post("/v1/solve", json={"tasks": [text("wait")]}, headers=LATER).json()["id"]
        held.go.set()
        until(lambda: lab.get(f"/v1/jobs/{second}").json()["state"] == "done", "the second is not done")
        cancelled = lab.get(f"/v1/jobs/{first}").json()["state"]

    assert cancelled == "cancelled"
    assert second != first


@pytest.mark.parametrize("headers", [PLAIN, LATER], ids=["at once", "later"])
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (OutOfMemory("the device is full"), "out_of_memory"),
        (DeadlinePassed("loading the model"), "deadline_passed"),
        (RuntimeError("nobody foresaw this"), "internal"),
    ],
    ids=["503", "504", "500"],
)
def test_a_failure_that_may_pass_does_not_answer_for_its_key(
    tmp_path: Path, headers: dict[str, str], fault: Exception, code: str
) -> None:
    failing = True

    def script(task: Task) -> Value:
        if failing:
            raise fault
        return shouting(task)

    with serving(tmp_path, script) as running, running.client() as lab:

        def result() -> dict[str, Any]:
            answer = lab.post("/v1/solve", json={"tasks": [text()]}, headers=headers)
            if answer.status_code != 202:
                return answer.json()["results"][0] if answer.status_code == 200 else {"problem": answer.json()}
            until(lambda: lab.get(answer.headers["Location"]).json()["state"] == "done", "it is not done")
            found: dict[str, Any] = lab.get(answer.headers["Location"]).json()["results"][0]
            return found

        first = result()
        failing = False
        second, third = result(), result()

    assert first["problem"]["code"] == code
    assert second["solution"]["answers"][0]["value"] == "D"
    assert third["solution"]["trace_id"] == second["solution"]["trace_id"]


def test_a_promise_that_could_not_be_written_down_binds_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(journal: Journal, job: Job) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    held = Held()
    with serving(tmp_path, held) as running, running.client() as lab:
        body = {"tasks": [text("wait")]}
        with lab.stream("POST", "/v1/solve", json=body, headers={**PLAIN, "Accept": "text/event-stream"}):
            held.wait_begun()
            monkeypatch.setattr(Journal, "_write", full)
            refused = lab.post("/v1/solve", json=body, headers=LATER)
        until(lambda: running.service.n_running == 0, "it is still at work, for nobody")
        held.go.set()

    assert (refused.status_code, refused.json()["code"]) == (503, "job_not_kept")


def test_a_solve_that_cannot_be_counted_leaves_its_place_to_the_next(tmp_path: Path) -> None:
    with serving(tmp_path, serve_workers=1, serve_queue=0) as running, running.client() as lab:
        running.service.metrics.solves = None  # type: ignore[assignment]  # as a number that Prometheus refuses
        codes = [lab.post("/v1/solve", json={"tasks": [text()]}).status_code for _ in range(2)]

    assert codes == [200, 200]
