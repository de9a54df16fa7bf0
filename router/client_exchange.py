"""What a client of the HTTP service sends, when it asks again, and what it makes of the answers.

The same for programs with and without an event loop (`router.client`): nothing here waits or sends.
"""

from __future__ import annotations

import io
import json
import random
import re
import time
import uuid
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from icl_engine.answer import Answer
from icl_engine.errors import ContextOverflow, FewShotError, TaskRefused, TaskTooLarge, TooFewDemonstrations
from icl_engine.task import HOW_TO_MAKE_A_TASK, Task, Value
from icl_engine.voting import Candidate
from policies.decision import Decision
from policies.errors import ArmUnavailable, OutcomeConflict, RecordRefused, UnknownTrace
from router.settings import SettingsError
from router.solution import Cost, Solution
from router.trace_errors import TraceNotKept
from ttt_engine.errors import DeadlinePassed

# step's name, done, of: as `router.solve_state.Progress`, without its imports
Progress = Callable[[str, int, int], None]
_TYPED: dict[str, type[TaskRefused]] = {
    "task_refused": TaskRefused,
    "task_too_large": TaskTooLarge,
    "too_few_demonstrations": TooFewDemonstrations,
    "context_overflow": ContextOverflow,
}
_OUTCOME = ("correct", "answer", "reward", "source", "reason")  # fields of what is said to have come of a solve
_KEY = re.compile(r"[!-~]+")
_EVENTS = "text/event-stream"
_PASSING = (429, 503)  # what may be otherwise a little later
_LONGEST_WAIT_S = 60.0  # a service that asks for more patience is not asked again
_LONGEST_BACKOFF_S = 2.0  # soon after a server is there again it should be asked
_RETRIES = 3  # where there is no deadline
_CONNECT_S = 10.0
_SILENT_S = 60.0  # after which a server is taken for dead; one that tells of events gives a sign every 15 s
# after a deadline: what is in one pass of the model ends with that pass. Longer than any server waits by itself (docs/
# service.md), so that what it then says is heard
_LATE_S = 60.0


class ServiceError(FewShotError):
    """What the service answers where it does not do what it was asked, and the library has no error for that.

    Attributes:
        status: of HTTP; 0 where there was no answer at all.
        code: stable, for programs: `overloaded`, `key_required`, `unknown_job`, `unreachable`, ...
        field: what of the request it is about, where that is known.
        remedy: what would do, where that is known.
        retry_after_s: when it may be otherwise, where that is known.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        said = [str(document.get("detail", "no answer")), document.get("remedy") or ""]
        super().__init__(" ".join(said).strip(), task_id=document.get("task_id"))
        self.status = int(document.get("status", 0))
        self.code = str(document.get("code", "unknown"))
        self.field: str | None = document.get("field")
        self.remedy: str | None = document.get("remedy")
        self.retry_after_s: float | None = document.get("retry_after_s")


class Request:
    """One request; asked again it is the same, key and all, but for the time that is left."""

    def __init__(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        later: bool = False,
        key: str | None = None,
    ) -> None:
        self.method, self.path, self.body = method, path, body
        solves = path == "/v1/solve"
        self.waits = solves and not later  # as long as it takes
        self.headers = {"Idempotency-Key": key or uuid.uuid4().hex} if solves else {}
        if later:
            self.headers["Prefer"] = "respond-async"


class Attempts:
    """A request and how often it has been sent: what is sent next, and when, up to one deadline for all of them."""

    def __init__(self, request: Request, retries: int | None) -> None:
        deadline_s = (request.body or {}).get("deadline_s")
        if retries is None and deadline_s is None:
            retries = _RETRIES
        self._request, self._left = request, retries  # None: as often as the deadline lets
        self._deadline = None if deadline_s is None else time.monotonic() + deadline_s
        self._n_sent = 0

    def next(self, *, followed: bool = False) -> dict[str, Any]:
        """Return the arguments of httpx for the next attempt.

        Args:
            followed: it is to be answered as a stream of events.
        """
        request, body, silent_s = self._request, self._request.body, _SILENT_S
        if self._deadline is not None and body is not None:
            left_s = max(self._deadline - time.monotonic(), 1e-3)
            if request.waits and not followed:  # else it answers, or gives a sign, at once
                silent_s = left_s + _LATE_S
            body = {**body, "deadline_s": left_s} if self._n_sent else body
        bounded = followed or not request.waits or self._deadline is not None
        timeout = httpx.Timeout(silent_s if bounded else None, connect=_CONNECT_S)
        headers = {**request.headers, **({"Accept": _EVENTS} if followed else {})}
        self._n_sent += 1
        sent = {} if body is None else {"json": body}
        return {"method": request.method, "url": request.path, "headers": headers, "timeout": timeout, **sent}

    def wait_after(self, answer: httpx.Response) -> float:
        """Return seconds after which to ask again.

        Raises:
            FewShotError: what the answer says, where asking again would be no use.
        """
        wait_s = _wait_s(answer, self._n_sent - 1)
        if wait_s is None or not self._may_wait(wait_s):
            raise _error_in(answer)
        return wait_s

    def wait_after_fault(self, error: httpx.TransportError, *, begun: bool = False) -> float:
        """Return seconds after which to ask again.

        Args:
            begun: something of an answer has come.

        Raises:
            ServiceError: asking again would be no use.
        """
        wait_s = _backoff_s(self._n_sent - 1)
        never = isinstance(error, httpx.ReadTimeout | httpx.UnsupportedProtocol | httpx.LocalProtocolError)
        if begun or never or not self._may_wait(wait_s):
            raise _unreachable(error) from error
        return wait_s

    def _may_wait(self, wait_s: float) -> bool:
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                return False
        return self._deadline is None or time.monotonic() + wait_s < self._deadline


def checked_url(url: str) -> httpx.URL:
    """Return the address of a service.

    Raises:
        SettingsError: it is none.
    """
    remedy = "Give it as http://HOST:PORT."
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as error:
        raise SettingsError(f"got {url!r}: {error}", variable="url", remedy=remedy) from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise SettingsError(f"got {url!r}", variable="url", remedy=remedy)
    return parsed


def path_of(kind: str, id: str) -> str:
    """Return the path of one of the jobs, traces or adapters."""
    return f"/v1/{kind}/{quote(id, safe='')}"


def headers_of(key: str) -> dict[str, str]:
    """Return the headers that every request has.

    Raises:
        SettingsError: the key cannot be sent.
    """
    if not _KEY.fullmatch(key):  # of which nothing is shown
        remedy = "Give the key alone, of printable characters without blanks or a line's end."
        raise SettingsError("got what cannot be sent", variable="key", remedy=remedy)
    return {"Authorization": f"Bearer {key}"}


def listed(tasks: Iterable[Task]) -> list[Task]:
    """Return the tasks; a single one and a dict can be gone through too, but hold none."""
    if isinstance(tasks, Task | Mapping | str):
        got = f"got a single {type(tasks).__name__}"
        raise TaskRefused(got, field="tasks", remedy="Give a list of tasks: [task].")
    return list(tasks)


def solving(
    tasks: Sequence[Task],
    arm: str | None,
    seed: int | None,
    deadline_s: float | None,
    *,
    later: bool = False,
    key: str | None = None,
) -> Request:
    """Return a request to solve tasks.

    Raises:
        SettingsError: the deadline is not above zero.
        TaskRefused: what is given is no task.
    """
    if deadline_s is not None and not deadline_s > 0:
        raise SettingsError(f"got {deadline_s}", variable="deadline_s", remedy="Give seconds above zero, or None.")
    options = {"arm": arm, "seed": seed, "deadline_s": deadline_s}
    given = {name: value for name, value in options.items() if value is not None}
    body = {"tasks": [_task_json(task) for task in tasks], **given}
    return Request("POST", "/v1/solve", body, later=later, key=key)


def listing(n: int, before: int | None, arm: str | None, outcome: str | None, degraded: bool | None) -> Request:
    """Return a request for a page of traces; see `Client.traces`."""
    wanted = {"n": n, "before": before, "arm": arm, "outcome": outcome, "degraded": degraded}
    query = httpx.QueryParams({name: value for name, value in wanted.items() if value is not None})
    return Request("GET", f"/v1/traces?{query}")


def deciding(task: Task, seed: int | None) -> Request:
    """Return a request for a decision.

    Raises:
        TaskRefused: what is given is no task.
    """
    return Request("POST", "/v1/decide", {"task": _task_json(task), **({} if seed is None else {"seed": seed})})


def saying(
    trace_id: str, correct: object, answer: object, reward: float | None, source: str, reason: str | None
) -> Request:
    """Return a request that says what came of a solve; see `Client.feedback`."""
    said = {"correct": correct, "answer": answer, "reward": reward, "reason": reason}
    given = {name: value for name, value in said.items() if value is not None}
    return Request("POST", "/v1/feedback", {"trace_id": trace_id, "source": source, **given})


def _task_json(task: Task) -> dict[str, Any]:
    if not isinstance(task, Task):
        raise TaskRefused(f"got {type(task).__name__}", field="task", remedy=HOW_TO_MAKE_A_TASK)
    return task.model_dump(mode="json", exclude_none=True)


def solutions_in(tasks: Sequence[Task], reply: Mapping[str, Any]) -> list[Solution]:
    """Return the solutions that a reply holds, in the order of the tasks.

    Raises:
        FewShotError: of the first task that was not answered.
    """
    found = []
    for task, result in zip(tasks, reply["results"], strict=True):
        if "problem" in result:
            raise _error_of(result["problem"])
        found.append(_solution(task, result["solution"]))
    return found


def _solution(task: Task, said: Mapping[str, Any]) -> Solution:
    answers = tuple(
        Answer(
            tuple(Candidate(_value(each.pop("value")), **each) for each in answer["candidates"]),
            confidence=answer["confidence"],
            tokens=answer["tokens"],
        )
        for answer in said["answers"]
    )
    names = ("arm", "answered_by", "propensity", "reason", "trace_id")
    rest = {name: said[name] for name in names}
    return Solution(task, answers, cost=Cost(**said["cost"]), degraded=tuple(said["degraded"]), **rest)


def _value(said: str | list[list[int]]) -> Value:
    return said if isinstance(said, str) else tuple(map(tuple, said))


def decision_in(said: dict[str, Any]) -> Decision:
    """Return the decision that a reply is."""
    names = ("arm", "propensity", "reason", "policy", "difficulty")
    rest = {name: said[name] for name in names}
    return Decision(propensities=tuple(said["propensities"].items()), **rest)


def unpacked(content: bytes, folder: Path) -> Path:
    """Write the files of an archive into a folder, and return that."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            (folder / Path(name).name).write_bytes(archive.read(name))  # never outside of the folder
    return folder


class Told:
    """What a stream of events has told so far, line by line; of each step it tells as it comes."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._event = ""
        self._results: list[Any] = []
        self.has_begun = False  # and cannot be told anew

    def take(self, line: str) -> None:
        """Take the next line."""
        self.has_begun = True
        field, _, value = line.partition(": ")
        if field == "event":
            self._event = value
        elif field == "data" and self._event == "step":
            content = json.loads(value)
            self._progress(content["step"], content["done"], content["of"])
        elif field == "data" and self._event == "result":
            self._results.append(json.loads(value))

    def reply(self) -> dict[str, Any]:
        """Return what the stream of a task ended in, in the form of an answer that comes at once.

        Raises:
            ServiceError: it ended before the result.
        """
        if not self._results:
            raise ServiceError({"detail": "the stream ended before the result. Ask again.", "code": "broken_off"})
        return {"results": self._results}


def _wait_s(answer: httpx.Response, attempt: int) -> float | None:
    """Return seconds after which to ask again; None: it would be no use."""
    if answer.status_code not in _PASSING:
        return None
    said = answer.headers.get("retry-after", "")
    wait_s = float(said) if said.isdigit() else _backoff_s(attempt)
    return wait_s if wait_s <= _LONGEST_WAIT_S else None  # to ask sooner than it says would be no use


def _backoff_s(attempt: int) -> float:
    return min(_LONGEST_BACKOFF_S, 0.1 * 2.0 ** min(attempt, 10)) * (0.5 + random.random())


def _unreachable(error: httpx.TransportError) -> ServiceError:
    why = str(error).rstrip(".") or type(error).__name__
    said = f"the service cannot be reached: {why}. Check its address, and that it runs."
    return ServiceError({"detail": said, "code": "unreachable"})


def _error_in(answer: httpx.Response) -> FewShotError:
    try:
        document = answer.json()
    except ValueError:  # something between us and the service has answered
        document = {}
    said = document if isinstance(document, dict) else {}
    return _error_of({"status": answer.status_code, "detail": f"status {answer.status_code}", **said})


def _error_of(document: Mapping[str, Any]) -> FewShotError:
    """Return the library's own error where the service tells enough of it, else a `ServiceError`."""
    kind, code = _TYPED.get(str(document.get("code"))), document.get("code")
    field, remedy, detail = (document.get(name) for name in ("field", "remedy", "detail"))
    if kind is not None and isinstance(field, str) and isinstance(remedy, str) and isinstance(detail, str):
        return kind(detail.removeprefix(f"{field}: "), field=field, remedy=remedy, task_id=document.get("task_id"))
    if code == "arm_unavailable" and "arm" in document and "available" in document:
        return ArmUnavailable(document["arm"], document["available"], task_id=document.get("task_id"))
    of_outcome = code == "record_refused" or (code == "body_refused" and field in _OUTCOME)
    if of_outcome and isinstance(field, str) and isinstance(remedy, str):
        return RecordRefused(field, str(detail).removeprefix(f"{field}: ").rstrip("."), remedy=remedy)
    if code == "unknown_trace" and "trace_id" in document:
        return UnknownTrace(document["trace_id"], "of the service")
    if code == "trace_not_kept" and "trace_id" in document:
        return TraceNotKept(document["trace_id"], "of the service")
    if code == "deadline_passed" and "during" in document:
        return DeadlinePassed(document["during"], task_id=document.get("task_id"))
    if code == "outcome_conflict" and "decision_id" in document:
        said = {name: document[name] for name in ("source", "kind", "recorded", "given")}
        return OutcomeConflict(document["decision_id"], **said)
    return ServiceError(document)
