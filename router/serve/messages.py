"""What goes over the wire: bodies in and out, with the examples that the OpenAPI document shows.

Models of what comes in check everything but the tasks, which `Task.parse` checks by the limits that are set; models of
what goes out are the documentation of what `solution_json` and its like write, and are run by the client alone.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    StringConstraints,
    ValidationError,
)

from icl_engine.answer import Answer
from icl_engine.loaders import arc_task, is_arc_task
from icl_engine.task import Limits, Task
from icl_engine.values import DEFAULT_LIMITS, decoded_json, described
from policies.decision import REMOTE, Arm, Decision
from router.added_arms import NAME
from router.errors import TaskRefused
from router.serve.errors import BodyRefused
from router.solution import Solution

ID = r"^[0-9a-f]{32}$"  # of traces and of jobs
_LONGEST_S = 7 * 24 * 3600.0
_CELL: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": 9}
_SIDE, _LINE = DEFAULT_LIMITS.side, DEFAULT_LIMITS.line  # a grid of one row or one column may be longer than others


def _grid(n_rows: int, n_columns: int) -> dict[str, Any]:
    row = {"type": "array", "items": _CELL, "minItems": 1, "maxItems": n_columns}
    return {"type": "array", "items": row, "minItems": 1, "maxItems": n_rows}


_VALUE: dict[str, Any] = {
    "description": "a text, a grid as a list of rows of equal length, or a single row; all of one kind in a task",
    "anyOf": [
        {"type": "string", "minLength": 1},
        _grid(_SIDE, _SIDE),
        _grid(1, _LINE),
        _grid(_LINE, 1),
        _grid(1, _LINE)["items"],
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
    "additionalProperties": False,
}
_ANY_TASK: dict[str, Any] = {"anyOf": [_TASK, _ARC_TASK]}
ARM_NAMES: tuple[str, ...] = (*map(str, Arm), REMOTE)  # beside those that the settings name
ArmName = Annotated[str, StringConstraints(pattern=f"^{NAME.pattern}$")]
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
    # which arms there are depends on the model: the route says it of one that is none
    arm: Annotated[StrictStr, Field(json_schema_extra={"examples": [*ARM_NAMES]})] | None = Field(
        None, description="answer with this arm, whatever the policy would do"
    )
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

    trace_id: Annotated[StrictStr, Field(json_schema_extra={"pattern": ID})]  # another is that of no trace: 404
    correct: StrictBool | Annotated[StrictFloat, Field(ge=0, le=1)] | None = Field(
        None, description="whether its answer was right"
    )
    answer: Any = Field(
        None,
        description="what would have been right, in the form of the task's outputs; for several queries a list with "
        "one for each, null where it is not known",
    )
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
    detail: str = Field(description="what was got, for people; also what would do, where there is no `remedy`")
    field: str | None = None
    remedy: str | None = Field(None, description="what would do")
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
_DOCUMENT = "GET /openapi.json says what is taken."
_WRAPPED: dict[type[_Given], str] = {SolveBody: '{"tasks": [ ... ]}', DecideBody: '{"task": ... }'}
_OF_TASKS = frozenset({"demonstrations", "queries", "train", "test"})
_FORMS = {  # of what patterns, unions and bounds say less well
    "tasks": "Give a list of one task or more.",
    "seed": f"Give a whole number from 0 to {2**32 - 1}.",
    "deadline_s": f"Give seconds above zero, at most {_LONGEST_S:.0f}.",
    "correct": "Give true, false or a number with a point from 0.0 to 1.0.",
    "reward": "Give a number from 0 to 1.",
    "source": "Give 1 to 100 printable characters of ASCII, no blank at either end.",
    "reason": "Give 1 to 500 characters on one line.",
}


def read_body(body: bytes, model: type[_Body], *, max_bytes: int) -> _Body:
    """Return what a body says.

    Raises:
        BodyRefused: it is no JSON, or not what the route takes; names the first field that is wrong.
    """
    try:
        given = decoded_json(body, "body", max_bytes)
    except TaskRefused as error:
        raise BodyRefused(error.message, field=error.field, remedy=error.remedy) from None
    if not isinstance(given, dict):
        remedy = f"Give an object with {_listed([*model.model_fields])}. {_DOCUMENT}"
        raise BodyRefused(f"got {described(given)}", field="body", remedy=remedy)
    wrapped = _WRAPPED.get(model)
    if wrapped is not None and not given.keys() & model.model_fields.keys() and given.keys() & _OF_TASKS:
        raise BodyRefused("got a task by itself", field="body", remedy=f"Wrap it: {wrapped}.")
    try:
        return model.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        got, remedy = said_of(first["type"], first["msg"], first["input"], first["loc"], [*model.model_fields])
        field = ascii(str(first["loc"][0])[:80])[1:-1]
        raise BodyRefused(got, field=field, remedy=f"{remedy} {_DOCUMENT}") from None


def said_of(kind: str, wanted: str, got: object, loc: Sequence[int | str], names: Sequence[str]) -> tuple[str, str]:
    """Return in our words what pydantic found: what was got, and what would do.

    Args:
        kind, wanted, got, loc: the type, message, input and place of pydantic's error.
        names: of the fields that there are.
    """
    name = str(loc[0]) if loc else ""
    if kind == "extra_forbidden":
        return "no such field", nearest(name, names)
    if kind == "missing":
        return "missing", f"Give {name}."
    return f"got {described(got)}", _FORMS.get(name) or f"{wanted.replace('Input should', 'It should')}."


def nearest(name: str, names: Sequence[str]) -> str:
    """Return what may have been meant by a name that is none of these."""
    close = difflib.get_close_matches(name, names, n=1)
    return f"Did you mean {close[0]}?" if close else f"There are {_listed(names)}."


def read_task(raw: object, field: str, limits: Limits) -> Task:
    """Return a task, of our own form or of that of ARC, with its place in the body in what is said of a bad one.

    Raises:
        TaskRefused: as for `Task.parse` and `arc_task`.
    """
    try:
        return _of_arc(raw, limits) if is_arc_task(raw) else Task.parse(raw, limits)
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


def _of_arc(raw: Any, limits: Limits) -> Task:
    for name in raw:
        if name not in _ARC_TASK["properties"]:  # such as an instruction, which would be left out without a word
            remedy = "In ARC's form there are train and test; `demonstrations` and `queries` go with other fields."
            raise TaskRefused(f"unknown field {name[:40]!a}", field="task", remedy=remedy)
    return arc_task(raw, limits=limits).task


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


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
