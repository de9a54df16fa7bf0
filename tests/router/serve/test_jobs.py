"""Promised jobs: whose folder they lie in, and what becomes of several requests for one of them."""

from __future__ import annotations

import errno
import logging
import shutil
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

import router.serve.service
from icl_engine.task import Limits, Task, Value
from policies.whole_files import UNFINISHED
from router.errors import DeadlinePassed, OutOfMemory
from router.serve.errors import KeyReused, UnknownJob
from router.serve.jobs import Asked, Job, Jobs
from router.serve.journal import Journal, own_folder
from router.serve.problems import problem_of
from tests.router.serve.serving import OTHER, Held, serving, shouting, text, until

LATER = {"Prefer": "respond-async", "Idempotency-Key": "same"}
PLAIN = {"Idempotency-Key": "same"}


def as_after_a_kill(home: Path, next_home: Path) -> None:
    """Copy the jobs of a server that runs as a kill at this moment would leave them to its next start."""
    half_written = shutil.ignore_patterns(f"*{UNFINISHED}")  # a start removes them, and here they go while one looks
    shutil.copytree(home / "jobs", next_home / "jobs", ignore=half_written)


def test_servers_on_one_home_have_a_folder_each_and_the_next_takes_up_what_a_dead_one_has_left(tmp_path: Path) -> None:
    job = Job("lab", Asked((Task.parse(text(), Limits()),)), kept=True)
    with own_folder(tmp_path, 8770) as first:
        with own_folder(tmp_path, 8770) as second, own_folder(tmp_path, 8771) as elsewhere:
            Journal(second, Limits()).write(job)
        with own_folder(tmp_path, 8770) as third:
            (found,) = Journal(third, Limits()).read()

    assert [path.name for path in (first, second, third, elsewhere)] == ["8770", "8770.1", "8770.1", "8771"]
    assert (found.id, found.over.is_set()) == (job.id, False)


def test_what_a_server_leaves_when_it_goes_is_done_by_another_of_its_home_and_port_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(router.serve.service, "_LOOK_FOR_LEFT_S", 0.02)
    left, kept = Job("lab", Asked((Task.parse(text()),)), kept=True, key="same"), tmp_path / "jobs"
    with (
        ExitStack() as life_of_another,
        own_folder(kept, 8770) as staying,
        serving(tmp_path, jobs=staying) as running,
        running.client() as lab,
        running.client(OTHER) as other,
    ):
        going = life_of_another.enter_context(own_folder(kept, 8770))
        Journal(going, Limits()).write(left)
        time.sleep(0.2)  # it looks several times
        meanwhile = lab.get(f"/v1/jobs/{left.id}").json()
        others = other.get(f"/v1/jobs/{left.id}").status_code
        n_solves = running.solves()
        life_of_another.close()
        until(lambda: lab.get(f"/v1/jobs/{left.id}").json()["state"] == "done", "nobody has taken it over")
        job = lab.get(f"/v1/jobs/{left.id}").json()
        same = lab.post("/v1/solve", json={"tasks": [text()]}, headers=LATER).json()["id"]

    assert (meanwhile["state"], meanwhile["n_tasks"], others, n_solves) == ("waiting", 1, 404, 0)
    assert job["results"][0]["solution"]["answers"][0]["value"] == "D"
    assert same == left.id
    assert [path.name for path in going.glob("*.json")] == []


def test_a_finished_job_is_found_at_every_server_of_its_home_and_port(tmp_path: Path) -> None:
    done = over(Jobs(keep_s=60, keep_bytes=2**20))
    with own_folder(tmp_path / "jobs", 8770) as first, own_folder(tmp_path / "jobs", 8770) as second:
        Journal(first, Limits()).write(done)
        with serving(tmp_path, jobs=second) as running, running.client() as lab:
            found = lab.get(f"/v1/jobs/{done.id}").json()
            with lab.stream("GET", f"/v1/jobs/{done.id}", headers={"Accept": "text/event-stream"}) as followed:
                code = followed.status_code

    assert (found["state"], found["n_tasks"], found["n_done"]) == ("done", 1, 1)
    assert found["results"] == [{"solution": {"answers": [{"value": "D"}]}}]
    assert code == 404  # that is for the server that has it


def test_where_a_key_was_asked_for_anew_a_job_that_is_taken_over_does_not_answer_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(router.serve.service, "_LOOK_FOR_LEFT_S", 0.02)
    left = Job("lab", Asked((Task.parse(text()),)), kept=True, key="same")
    with (
        ExitStack() as life_of_another,
        own_folder(tmp_path / "jobs", 8770) as staying,
        serving(tmp_path, jobs=staying) as running,
        running.client() as lab,
    ):
        anew = lab.post("/v1/solve", json={"tasks": [text()]}, headers=LATER).json()["id"]
        Journal(life_of_another.enter_context(own_folder(tmp_path / "jobs", 8770)), Limits()).write(left)
        life_of_another.close()
        until(lambda: lab.get(f"/v1/jobs/{left.id}").json()["state"] == "done", "nobody has taken it over")
        again = lab.post("/v1/solve", json={"tasks": [text()]}, headers=LATER).json()["id"]

    assert again == anew


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


def test_what_its_owner_has_cancelled_is_done_by_no_later_start(tmp_path: Path) -> None:
    killed, next_start, held = tmp_path / "killed", tmp_path / "next", Held()
    with serving(killed, held) as running, running.client() as lab:
        job = lab.post("/v1/solve", json={"tasks": [text("wait")]}, headers=LATER).headers["Location"]
        held.wait_begun()
        acknowledged = lab.delete(job)
        as_after_a_kill(killed, next_start)
        held.go.set()
    with serving(next_start) as running, running.client() as lab:
        found = lab.get(job).json()
        until(lambda: not running.service.n_running, "it runs on")
        n_solves = running.solves()
        again = lab.post("/v1/solve", json={"tasks": [text("wait")]}, headers=LATER).headers["Location"]

    assert acknowledged.status_code == 200
    assert (found["state"], n_solves) == ("cancelled", 0)
    assert found["results"][0]["problem"]["code"] == "cancelled"
    assert again != job


def test_a_cancellation_that_cannot_be_written_down_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(journal: Journal, job: Job) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    held = Held()
    with serving(tmp_path, held) as running, running.client() as lab:
        job = lab.post("/v1/solve", json={"tasks": [text("wait")]}, headers=LATER).headers["Location"]
        held.wait_begun()
        monkeypatch.setattr(Journal, "_write", full)
        told = lab.delete(job)
        held.go.set()

    assert (told.status_code, told.json()["code"]) == (503, "cancellation_not_kept")


def over(jobs: Jobs, tenant: str = "lab", answer: str = "D", **asked: Any) -> Job:
    """A job under a key of its own, or the one given, that is taken in and ends with this answer."""
    job = Job(tenant, Asked((Task.parse(text()),)), kept=True, key=asked.get("key"))
    jobs.add(job)
    job.results = {0: {"solution": {"answers": [{"value": answer}]}}}
    jobs.over(job)
    job.over.set()
    return job


def test_a_running_job_that_is_cancelled_says_so_until_it_has_stopped() -> None:
    job = Job("lab", Asked((Task.parse(text()),)), kept=True)
    job.is_begun = True
    states = [job.state]
    job.unwanted.set()
    states.append(job.state)
    job.over.set()

    assert [*states, job.state] == ["running", "cancelling", "cancelled"]


def test_of_a_job_that_is_over_the_results_are_kept_and_not_the_tasks() -> None:
    jobs = Jobs(keep_s=60, keep_bytes=2**20)
    job = over(jobs, key="same")
    same, other = Task.parse(text()), Task.parse(text("e"))

    assert job.asked.tasks == ()
    assert job.as_json()["results"] == [{"solution": {"answers": [{"value": "D"}]}}]
    assert jobs.same("lab", "same", Asked((same,))) is job
    assert jobs.same("lab", "same", Asked((same,), deadline_s=0.5)) is job  # whoever asks again has less time left
    with pytest.raises(KeyReused):
        jobs.same("lab", "same", Asked((other,)))


def test_a_job_that_is_over_is_found_again_at_the_next_start_without_its_tasks(tmp_path: Path) -> None:
    job = over(Jobs(keep_s=60, keep_bytes=2**20), key="same")
    Journal(tmp_path, Limits()).write(job)
    (found,) = Journal(tmp_path, Limits()).read()
    jobs = Jobs(keep_s=60, keep_bytes=2**20)
    jobs.add(found)
    jobs.over(found)

    assert found.over.is_set()
    assert found.ordered_results() == job.ordered_results()
    assert jobs.same("lab", "same", Asked((Task.parse(text()),))) is found


def test_what_is_kept_of_jobs_stays_within_its_bound() -> None:
    jobs = Jobs(keep_s=60, keep_bytes=2**20)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for n in range(500):
            over(jobs, answer=f"{n:010}" * 1000)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert after - before < 1.2 * 2**20


def test_where_results_take_too_much_the_oldest_go_of_the_tenant_that_keeps_most() -> None:
    dropped: list[str] = []
    jobs = Jobs(60, 2**20, dropped.append)
    little = over(jobs, tenant="other")
    much = [over(jobs, answer="x" * 2**17) for _ in range(20)]

    assert jobs.get("other", little.id) is little
    assert dropped == [job.id for job in much[: len(dropped)]]
    assert len(much) - len(dropped) == 7  # of 128 KiB each in 1 MiB, with what else they take
    with pytest.raises(UnknownJob):
        jobs.get("lab", much[0].id)


def test_a_solve_that_cannot_be_counted_leaves_its_place_to_the_next(tmp_path: Path) -> None:
    with serving(tmp_path, serve_workers=1, serve_queue=0) as running, running.client() as lab:
        running.service.metrics.solves = None  # type: ignore[assignment]  # as a number that Prometheus refuses
        codes = [lab.post("/v1/solve", json={"tasks": [text()]}).status_code for _ in range(2)]

    assert codes == [200, 200]


def test_a_failure_that_may_pass_does_not_answer_for_its_key_after_a_restart_either(tmp_path: Path) -> None:
    failed = Job("lab", Asked((Task.parse(text()),)), kept=True, key="same")
    failed.results = {0: {"problem": problem_of(OutOfMemory("the device is full"))}}
    Journal(tmp_path / "jobs", Limits()).write(failed)
    with serving(tmp_path) as running, running.client() as lab:
        found = lab.get(f"/v1/jobs/{failed.id}").json()
        again = lab.post("/v1/solve", json={"tasks": [text()]}, headers=LATER).json()["id"]

    assert (found["state"], found["n_tasks"], found["results"][0]["problem"]["code"]) == ("done", 1, "out_of_memory")
    assert again != failed.id


def test_what_is_packed_already_is_not_packed_again() -> None:
    jobs = Jobs(keep_s=60, keep_bytes=2**20)
    job = over(jobs)
    packed = job.packed
    jobs.over(job)

    assert packed is not None
    assert job.packed is packed


def test_a_job_that_cannot_be_read_for_now_is_kept_told_once_and_done_when_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    job, read_bytes = Job("lab", Asked((Task.parse(text()),)), kept=True), Path.read_bytes

    def too_many(path: Path) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files")

    with own_folder(tmp_path, 8770) as folder:
        Journal(folder, Limits()).write(job)
        journal = Journal(folder, Limits())
        monkeypatch.setattr(Path, "read_bytes", too_many)
        at_first = [*journal.read(), *journal.take_over(), *journal.take_over()]
        monkeypatch.setattr(Path, "read_bytes", read_bytes)
        then = [each.id for each in journal.take_over()]
        at_last = journal.take_over()

    assert (at_first, then, at_last) == ([], [job.id], [])
    assert [(r.levelname, r.message) for r in caplog.records] == [
        ("ERROR", "a job cannot be read now: Too many open files")
    ]


def test_what_is_no_job_is_put_aside_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "broken.json").write_text("{")

    assert list(Journal(tmp_path, Limits()).read()) == []
    assert (tmp_path / "broken.unreadable").read_text() == "{"
    assert [(r.levelname, r.__dict__["job"]) for r in caplog.records] == [("ERROR", "broken")]


def test_a_folder_that_cannot_be_taken_over_is_told_once_and_keeps_nobody_from_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = Job("lab", Asked((Task.parse(text()),)), kept=True)
    Journal(tmp_path / "8770.2", Limits()).write(job)
    (tmp_path / "8770.1" / "lock").mkdir(parents=True)  # so that it cannot be held
    with own_folder(tmp_path, 8770) as folder:
        journal = Journal(folder, Limits())
        taken = [[each.id for each in journal.take_over()] for _ in range(2)]

    assert taken == [[job.id], []]
    assert [r.message for r in caplog.records] == ["8770.1: what is left there cannot be taken over: Is a directory"]


@pytest.mark.parametrize("name", ["8770.bak", "87701", "8771", "8770.1.old"])
def test_a_folder_that_is_no_server_s_is_let_be(tmp_path: Path, name: str) -> None:
    Journal(tmp_path / name, Limits()).write(Job("lab", Asked((Task.parse(text()),)), kept=True))
    with own_folder(tmp_path, 8770) as folder:
        taken = Journal(folder, Limits()).take_over()

    assert taken == []
    assert [path.suffix for path in (tmp_path / name).iterdir()] == [".json"]


def test_a_job_that_ends_one_server_after_the_other_is_given_up_and_answers_for_its_key(tmp_path: Path) -> None:
    poison, held = Job("lab", Asked((Task.parse(text("wait")),)), kept=True, key="same"), Held()
    innocent = Job("lab", Asked((Task.parse(text()),)), kept=True)
    for job in (poison, innocent):
        Journal(tmp_path / "0" / "jobs", Limits()).write(job)
    for n in range(3):
        with serving(tmp_path / str(n), held, serve_workers=1) as running:
            held.wait_begun()
            as_after_a_kill(tmp_path / str(n), tmp_path / str(n + 1))
            held.go.set()
            until(lambda: not running.service.is_busy, "it is still at work")
        held.go.clear()
    with serving(tmp_path / "3", held) as running, running.client() as lab:
        until(lambda: lab.get(f"/v1/jobs/{poison.id}").json()["state"] == "done", "it is not given up")
        result = lab.get(f"/v1/jobs/{poison.id}").json()["results"][0]
        again = lab.post("/v1/solve", json={"tasks": [text("wait")]}, headers=LATER).json()["id"]
        until(lambda: lab.get(f"/v1/jobs/{innocent.id}").json()["state"] == "done", "what only waited is given up too")
        waited = lab.get(f"/v1/jobs/{innocent.id}").json()["results"][0]
    with serving(tmp_path / "3", held) as running, running.client() as lab:
        still = lab.get(f"/v1/jobs/{poison.id}").json()["results"][0]

    assert (result["problem"]["code"], held.n) == ("job_given_up", 3)
    assert (again, still) == (poison.id, result)
    assert waited["solution"]["answers"][0]["value"] == "D"


def test_a_job_that_is_handed_back_over_and_over_is_not_given_up(tmp_path: Path) -> None:
    job = Job("lab", Asked((Task.parse(text("wait")),)), kept=True)
    Journal(tmp_path / "jobs", Limits()).write(job)
    for _ in range(4):
        held = Held()
        with serving(tmp_path, held, serve_stop_s=0.0) as running:
            held.wait_begun()
            running.stop()
            until(lambda: running.service.jobs.get("lab", job.id).handed_back, "it is not handed back")
            held.go.set()
    (found,) = Journal(tmp_path / "jobs", Limits()).read()

    assert (found.n_tries, found.over.is_set(), len(found.asked.tasks)) == (0, False, 1)


def test_what_is_deleted_after_it_was_handed_back_is_done_by_no_later_start(tmp_path: Path) -> None:
    held, slow = Held(), {"tasks": [text("wait")]}
    with serving(tmp_path, held, serve_workers=1, serve_stop_s=0.0) as running, running.client() as lab:
        at_work = lab.post("/v1/solve", json=slow, headers={"Prefer": "respond-async"}).json()["id"]
        held.wait_begun()
        job = lab.post("/v1/solve", json=slow, headers=LATER).headers["Location"]
        running.stop()
        until(lambda: lab.get(job).json()["n_done"] == 1, "it is not handed back")
        before = lab.get(job).json()["state"]
        told = lab.delete(job).json()
        held.go.set()
    with serving(tmp_path) as running, running.client() as lab:
        found = lab.get(job).json()
        until(lambda: lab.get(f"/v1/jobs/{at_work}").json()["state"] == "done", "what was not deleted is not done")

    assert (before, told["state"], found["state"]) == ("waiting", "cancelled", "cancelled")
    assert found["results"][0]["problem"]["code"] == told["results"][0]["problem"]["code"] == "cancelled"


def test_a_server_that_was_told_to_stop_begins_with_nothing_that_it_takes_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(router.serve.service, "_LOOK_FOR_LEFT_S", 0.02)
    looking, go, take_over = threading.Event(), threading.Event(), Journal.take_over
    left = Job("lab", Asked((Task.parse(text()),)), kept=True)

    def slowly(journal: Journal) -> list[Job]:
        found = take_over(journal)
        if found:
            looking.set()
            assert go.wait(20)
        return found

    monkeypatch.setattr(Journal, "take_over", slowly)
    held = Held()
    with own_folder(tmp_path / "jobs", 8770) as staying:
        with serving(tmp_path, held, jobs=staying) as running, running.client() as lab:
            lab.post("/v1/solve", json={"tasks": [text("wait")]}, headers=LATER)
            held.wait_begun()
            Journal(tmp_path / "jobs" / "8770.1", Limits()).write(left)
            assert looking.wait(20)
            running.stop()
            until(lambda: running.service.stopping, "it does not stop")
            go.set()
            time.sleep(0.1)  # it is back from its look
            n_at_work = running.service.n_running + running.service.n_waiting
            held.go.set()
        kept = [job.id for job in Journal(staying, Limits()).read() if not job.over.is_set()]

    assert (n_at_work, kept) == (1, [left.id])


def test_whatever_goes_wrong_in_a_look_for_what_is_left_the_next_look_takes_it_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(router.serve.service, "_LOOK_FOR_LEFT_S", 0.02)
    take_over, faults = Journal.take_over, [RuntimeError("nobody foresaw this")]

    def fails_once(journal: Journal) -> list[Job]:
        if faults:
            raise faults.pop()
        return take_over(journal)

    monkeypatch.setattr(Journal, "take_over", fails_once)
    left = Job("lab", Asked((Task.parse(text()),)), kept=True)
    Journal(tmp_path / "jobs" / "8770.1", Limits()).write(left)
    with (
        own_folder(tmp_path / "jobs", 8770) as staying,
        serving(tmp_path, jobs=staying) as running,
        running.client() as lab,
    ):
        until(lambda: running.service.jobs.running() or running.solves(), "it is not taken over")
        until(lambda: lab.get(f"/v1/jobs/{left.id}").json()["state"] == "done", "it is not done")

    told = [r.message for r in caplog.records if r.levelno == logging.ERROR]
    assert told == ["nothing was taken over: RuntimeError('nobody foresaw this')"]
