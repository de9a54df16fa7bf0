"""What goes over the wire: bodies in and out, with the examples that the OpenAPI document shows.

Models of what comes in check everything but the tasks, which `Task.parse` checks by the limits that are set; models of
what goes out are the documentation of what `solution_json` and its like write, and are run by the client alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr, ValidationError

from icl_engine.answer import Answer
from icl_engine.loaders import arc_task, is_arc_task
from icl_engine.task import Limits, Task
from icl_engine.values import decoded_json
from policies.decision import Decision
from router.errors import TaskRefused
from router.serve.errors import BodyRefused
from router.solution import Solution

ID = r"^[0-9a-f]{32}$"  # of traces and of jobs
_LONGEST_S = 7 * 24 * 3600.0
_CELL: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": 9}
_ROW: dict[str, Any] = {"type": "array", "items": _CELL, "minItems": 1, "maxItems": 30}
_VALUE: dict[str, Any] = {
    "description": "a text, a grid as a list of rows of equal length, or a single row; all of one kind in a task",
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "items": _ROW, "minItems": 1, "maxItems": 30},
        _ROW,
    ],
}
_TASK: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "maxLength": 200},
        "demonstrations": {
            "type": "array",
            "minItems": 1,
            "maxItems": 64,
            "items": {
                "type": "object",
                "properties": {"input": _VALUE, "output": _VALUE},
                "required": ["input", "output"],
            },
        },
        "queries": {"type": "array", "minItems": 1, "maxItems": 1000, "items": _VALUE},
        "instruction": {"anyOf": [{"type": "string", "minLength": 1}, {"type": "null"}]},
    },
    "required": ["demonstrations", "queries"],
    "additionalProperties": False,
}
_ARC_TASK: dict[str, Any] = {
    "type": "object",
    "description": "the form of ARC's files; outputs of `test` are not looked at beyond their form",
    "properties": {
        "train": {
            "type": "array",
            "minItems": 1,
            "maxItems": 64,
            "items": {
                "type": "object",
                "properties": {"input": _VALUE, "output": _VALUE},
                "required": ["input", "output"],
            },
        },
        "test": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1000,
            "items": {
                "type": "object",
                "properties": {"input": _VALUE, "output": {"anyOf": [_VALUE, {"type": "null"}]}},
                "required": ["input"],
            },
        },
    },
    "required": ["train", "test"],
}
_ANY_TASK: dict[str, Any] = {"anyOf": [_TASK, _ARC_TASK]}
ArmName = Literal["zero_shot", "icl", "icl_vote", "ttt_short", "ttt", "remote"]
EXAMPLE_TASK: dict[str, Any] = {
    "id": "shift",
    "demonstrations": [
        {"input": [0, 2, 2, 0, 0, 0], "output": [0, 0, 2, 2, 0, 0]},
        {"input": [3, 3, 3, 0, 0, 0], "output": [0, 3, 3, 3, 0, 0]},
        {"input": [0, 0, 0, 5, 0, 0], "output": [0, 0, 0, 0, 5, 0]},
    ],
    "queries": [[0, 7, 7, 0, 0, 0]],
}
_SEED = Annotated[StrictInt, Field(ge=0, lt=2**32, description="of all that is drawn; default: the server's setting")]


class _Given(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class SolveBody(_Given):
    """One task or several, answered with the same options."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"tasks": [EXAMPLE_TASK]},
                {"tasks": [EXAMPLE_TASK], "arm": "ttt", "seed": 7, "deadline_s": 60.0},
            ]
        }
    )

    tasks: Annotated[list[Any], Field(min_length=1, json_schema_extra={"items": _ANY_TASK})]
    arm: ArmName | None = Field(None, description="answer with this arm, whatever the policy would do")
    seed: _SEED | None = None
    deadline_s: Annotated[StrictFloat | StrictInt, Field(gt=0, le=_LONGEST_S)] | None = Field(
        None, description="seconds from now, waiting included, after which the answer in context is given"
    )


class DecideBody(_Given):
    """One task to decide about."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"task": EXAMPLE_TASK}]})

    task: Annotated[Any, Field(json_schema_extra=_ANY_TASK)]
    seed: _SEED | None = None


class FeedbackBody(_Given):
    """What came of a solve: one of `correct`, `answer` and `reward`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"trace_id": "0" * 32, "correct": True},
                {"trace_id": "0" * 32, "answer": [[0, 0, 7, 7, 0, 0]], "source": "review"},
                {"trace_id": "0" * 32, "correct": False, "reason": "misread"},
            ]
        }
    )

    trace_id: Annotated[StrictStr, Field(pattern=ID)]
    correct: StrictBool | Annotated[StrictFloat, Field(ge=0, le=1)] | None = Field(
        None, description="whether its answer was right"
    )
    answer: Any = Field(None, description="what would have been right; for several queries a list, null: not known")
    reward: Annotated[StrictFloat | StrictInt, Field(ge=0, le=1)] | None = Field(None, description="how good it was")
    source: Annotated[StrictStr, Field(pattern=r"^[!-~]([ -~]{0,98}[!-~])?$")] = Field(
        "user", description="who says so; the first report of a source counts, until it is corrected"
    )
    reason: Annotated[StrictStr, Field(pattern=r"^[^\x00-\x1f\x7f]{1,500}$")] | None = Field(
        None, description="why what this source may have said before is corrected; without it that is refused (409)"
    )


class CostReply(BaseModel):
    """What was spent on one task."""

    seconds: float
    gpu_seconds: float
    tokens: int


class CandidateReply(BaseModel):
    """A value that was voted for."""

    value: list[list[int]] | str
    n_votes: int
    share: float
    log_probability: float


class AnswerReply(BaseModel):
    """The answer to one query: at most two candidates, best first."""

    value: list[list[int]] | str | None
    confidence: float
    tokens: int
    candidates: list[CandidateReply]


class SolutionReply(BaseModel):
    """What `solve` gives back for one task."""

    task_id: str
    answers: list[AnswerReply] = Field(description="one for each query")
    arm: str
    answered_by: str
    propensity: float
    reason: str
    cost: CostReply
    degraded: list[str] = Field(description="what did not go as it should; empty when all did")
    trace_id: str


class Problem(BaseModel):
    """An error (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    code: str = Field(description="stable, for programs")
    detail: str = Field(description="what was got and what would do, for people")
    field: str | None = None
    remedy: str | None = None
    retry_after_s: float | None = None


class ResultReply(BaseModel):
    """What became of one task: one of the two."""

    solution: SolutionReply | None = None
    problem: Problem | None = None


class SolveReply(BaseModel):
    """The results of all tasks, in their order."""

    results: list[ResultReply]


class JobReply(BaseModel):
    """Where a job stands."""

    id: str
    state: Literal["waiting", "running", "cancelling", "done", "cancelled"]
    n_tasks: int
    n_done: int
    results: list[ResultReply] | None = Field(None, description="once it is done or cancelled")


class DecisionReply(BaseModel):
    """Which arm `solve` would answer with, and why."""

    task_id: str
    arm: str
    propensity: float
    propensities: dict[str, float]
    difficulty: float
    reason: str
    policy: str


class RecordedReply(BaseModel):
    """What was said is in the ledger."""

    trace_id: str
    recorded: bool


class SummaryReply(BaseModel):
    """One line of a list of traces."""

    seq: int
    trace_id: str
    created_at: str
    task_id: str
    arm: str
    answered_by: str | None
    policy: str
    seconds: float
    difficulty: float
    confidence: float | None
    n_degraded: int
    outcome: float | None = Field(description="lowest of what the sources say of the answer; null: nothing yet")


class TracesReply(BaseModel):
    """A page of traces, newest first."""

    traces: list[SummaryReply]
    next: int | None = Field(description="give it as `before` for the next page; null: there is none")


class OutcomeReply(BaseModel):
    """What one source says of a solve."""

    source: str
    kind: str
    value: float
    created_at: str | None


class TraceReply(BaseModel):
    """A trace, what came of it, and why it went so, in words."""

    trace: dict[str, Any]
    outcomes: list[OutcomeReply]
    why: list[str]


class VersionReply(BaseModel):
    """One policy that was trained, and how far it has come."""

    version: str
    state: str
    at: str
    reason: str


class PolicyReply(BaseModel):
    """Who decides, and the versions that the ledger holds."""

    deciding: str = Field(description="name@version of the policy that decides now")
    learning: str
    champion: str | None
    challenger: str | None
    previous: str | None
    versions: list[VersionReply]


class HealthReply(BaseModel):
    """How it goes."""

    status: Literal["ok", "degraded", "stopping"]
    degraded: list[str] = Field(description="what does not go as it should, in a few words")


class ReadyReply(BaseModel):
    """What the server is doing."""

    status: Literal["ok", "degraded", "stopping"]
    degraded: list[str]
    n_running: int
    n_waiting: int
    n_deciding: int
    model: str


_Body = TypeVar("_Body", bound=_Given)


def read_body(body: bytes, model: type[_Body], *, max_bytes: int) -> _Body:
    """Return what a body says.

    Raises:
        BodyRefused: it is no JSON, or not what the route takes; names the first field that is wrong.
    """
    try:
        return model.model_validate(decoded_json(body, "body", max_bytes))
    except TaskRefused as error:
        raise BodyRefused(error.message, field=error.field, remedy=error.remedy) from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = _path(first["loc"])
        raise BodyRefused(first["msg"], field=field, remedy="The OpenAPI document says what is taken.") from None


def read_task(raw: object, field: str, limits: Limits) -> Task:
    """Return a task, of our own form or of that of ARC, with its place in the body in what is said of a bad one.

    Raises:
        TaskRefused: as for `Task.parse` and `arc_task`.
    """
    try:
        return arc_task(raw, limits=limits).task if is_arc_task(raw) else Task.parse(raw, limits)
    except TaskRefused as error:
        place = field if error.field == "task" else f"{field}.{error.field}"
        raise type(error)(error.message, field=place, remedy=error.remedy, task_id=error.task_id) from None


def solution_json(solution: Solution, redact: Callable[[str], str] = str) -> dict[str, Any]:
    """Return a solution as it is sent; see `SolutionReply`."""
    cost = solution.cost
    return {
        "task_id": solution.task.id,
        "answers": [_answer_json(answer) for answer in solution.answers],
        "arm": solution.arm,
        "answered_by": solution.answered_by,
        "propensity": solution.propensity,
        "reason": solution.reason,
        "cost": {"seconds": cost.seconds, "gpu_seconds": cost.gpu_seconds, "tokens": cost.tokens},
        "degraded": [redact(each) for each in solution.degraded],
        "trace_id": solution.trace_id,
    }


def decision_json(task: Task, decision: Decision) -> dict[str, Any]:
    """Return a decision as it is sent; see `DecisionReply`."""
    return {
        "task_id": task.id,
        "arm": decision.arm,
        "propensity": decision.propensity,
        "propensities": dict(decision.propensities),
        "difficulty": decision.difficulty,
        "reason": decision.reason,
        "policy": decision.policy,
    }


def _answer_json(answer: Answer) -> dict[str, Any]:
    candidates = [
        {
            "value": each.value,
            "n_votes": each.n_votes,
            "share": each.share,
            "log_probability": each.log_probability,
        }
        for each in answer.candidates
    ]
    return {
        "value": answer.value,
        "confidence": answer.confidence,
        "tokens": answer.tokens,
        "candidates": candidates,
    }


def _path(parts: tuple[int | str, ...]) -> str:
    path = ""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return ascii(path[:80])[1:-1] or "body"
