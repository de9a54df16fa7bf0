"""The few-shot task: demonstrations (input, output) and queries, all of grids or all of text.

Whatever is wrong with a value is found here, once, size before content, and reaches the caller as a `TaskRefused` that
names the field. Solutions are kept beside the task in a `LabelledTask`: nothing that is handed a `Task` sees them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationInfo, model_validator

from icl_engine.errors import TaskRefused, TooFewDemonstrations
from icl_engine.values import (
    DEFAULT_LIMITS,
    Grid,
    Kind,
    Limits,
    Value,
    checked_text,
    checked_value,
    decoded_json,
    described,
    n_chars_of,
    refuse,
    too_large,
    value_kind,
)

__all__ = ["HOW_TO_MAKE_A_TASK", "Demonstration", "Grid", "Kind", "LabelledTask", "Limits", "Task", "Value"]

HOW_TO_MAKE_A_TASK = (
    "Make one with Task.from_pairs or Task.parse; of ARC's form with `arc_task`, of a file with `load_tasks`, both in "
    "`icl_engine.loaders`."
)
_FIELDS = ("id", "demonstrations", "queries", "instruction")
_ONE_KIND = "All values of a task are grids, or all are text."


class Demonstration(BaseModel):
    """An input and the output that belongs to it.

    Raises:
        TaskRefused: either is neither a grid nor a text, or they are not of one kind.
    """

    model_config = ConfigDict(frozen=True)

    input: Value
    output: Value

    @model_validator(mode="before")
    @classmethod
    def _checked(cls, data: object, info: ValidationInfo) -> object:
        if isinstance(data, Demonstration):
            return data
        demonstration = _checked_demonstration(data, "demonstration", _limits(info))
        return {"input": demonstration.input, "output": demonstration.output}


class Task(BaseModel):
    """A few-shot task: at least one demonstration and at least one query, all grids or all text.

    `id` is a name for people and files and defaults to the start of the fingerprint; it is no part of the content.

    Raises:
        TaskRefused: something in it cannot be used; the error names the field and what would do.
        TaskTooLarge: it is beyond the limits (the default ones; `Task.parse` takes others).
        TooFewDemonstrations: it has none.
    """

    model_config = ConfigDict(frozen=True)

    id: str = ""
    demonstrations: tuple[Demonstration, ...]
    queries: tuple[Value, ...]
    instruction: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _checked(cls, data: object, info: ValidationInfo) -> object:
        return data if isinstance(data, Task) else _checked_task(data, _limits(info))

    @classmethod
    def parse(cls, data: object, limits: Limits = DEFAULT_LIMITS) -> Self:
        """Make a task of untrusted data: a dict with `demonstrations`, `queries` and, optionally, `id`, `instruction`.

        Raises:
            TaskRefused: as for `Task`, with `limits` in place of the default ones.
        """
        return cls.model_validate(data, context={"limits": limits})

    @classmethod
    def parse_json(cls, text: str | bytes, limits: Limits = DEFAULT_LIMITS) -> Self:
        """Make a task of untrusted JSON text.

        Raises:
            TaskRefused: it is not JSON, or as for `parse`.
        """
        return cls.parse(decoded_json(text, "task", limits.max_task_json_chars), limits)

    @classmethod
    def from_pairs(
        cls,
        pairs: Sequence[Sequence[object]],
        query_or_queries: object,
        instruction: str | None = None,
        id: str = "",
    ) -> Self:
        """Make a task of Python (input, output) pairs and one query or a list of them.

        A value is a text, a list of rows, or a 1-D list of ints, which is one row. A list of lists of ints is one grid,
        unless the demonstrated inputs are 1-D lists: then it is a list of 1-D queries.

        Raises:
            TaskRefused: as for `Task`.
        """
        if not isinstance(pairs, list | tuple):
            refuse(described(pairs), "demonstrations", "Give a list of (input, output) pairs.")
        if len(pairs) > DEFAULT_LIMITS.max_demonstrations:
            raise too_large(
                "demonstrations", f"{len(pairs)} of them", DEFAULT_LIMITS.max_demonstrations, "demonstrations"
            )
        demonstrations = [_from_pair(pair, f"demonstrations[{i}]") for i, pair in enumerate(pairs)]
        inputs_are_rows = bool(demonstrations) and _depth(demonstrations[0]["input"]) == 1
        many = _is_many(query_or_queries, inputs_are_rows)
        return cls.parse(
            {
                "id": id,
                "demonstrations": demonstrations,
                "queries": query_or_queries if many else [query_or_queries],
                "instruction": instruction,
            }
        )

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **options: Any) -> Self:
        """As `parse_json`: pydantic's own reader would answer bad JSON with its own error."""
        return cls.parse_json(bytes(json_data) if isinstance(json_data, bytearray) else json_data)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic's, but `update` is checked, and nothing cached from the old content is kept."""
        return type(self)(**{**{name: getattr(self, name) for name in _FIELDS}, **(update or {})})

    @property
    def kind(self) -> Kind:
        """Whether the values are grids or text."""
        return "text" if isinstance(self.queries[0], str) else "grid"

    @property
    def query(self) -> Value:
        """The first query: the only one of most tasks."""
        return self.queries[0]

    def for_query(self, i: int) -> Task:
        """Return this task, id included, with only query `i`."""
        return self.replace(queries=(self.queries[i],))

    def replace(
        self, *, demonstrations: tuple[Demonstration, ...] | None = None, queries: tuple[Value, ...] | None = None
    ) -> Task:
        """Return a task under the same id and instruction with other, already checked content.

        Nothing is checked again: limits are for what comes from outside, and a task that was let in under wider
        ones must survive being held out from, augmented and undone.
        """
        return Task.model_construct(
            id=self.id,
            demonstrations=self.demonstrations if demonstrations is None else demonstrations,
            queries=self.queries if queries is None else queries,
            instruction=self.instruction,
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the content without the id: the same on every machine and under every hash seed."""
        return _fingerprint("icl_engine.task/1", self.demonstrations, self.instruction, self.queries)

    @cached_property
    def demonstrations_fingerprint(self) -> str:
        """SHA-256 (hex) of the demonstrations and the instruction: what an adapter is trained on."""
        return _fingerprint("icl_engine.demonstrations/1", self.demonstrations, self.instruction)


@dataclass(frozen=True, slots=True)
class LabelledTask:
    """A task and, apart from it, the solution of each query where one is known.

    Raises:
        TaskRefused: there is not one entry of `solutions` per query.
    """

    task: Task
    solutions: tuple[Value | None, ...]

    def __post_init__(self) -> None:
        if len(self.solutions) != len(self.task.queries):
            raise TaskRefused(
                f"got {len(self.solutions)} for {len(self.task.queries)} queries",
                field="solutions",
                remedy="Give one solution, or null, for each query.",
                task_id=self.task.id,
            )

    @classmethod
    def parse(cls, task: Task, solutions: object, limits: Limits = DEFAULT_LIMITS) -> LabelledTask:
        """Put untrusted solutions beside a task; `None` stands for all unknown.

        Raises:
            TaskRefused: a solution is not a value of the task's kind, or there is not one per query.
        """
        if solutions is None:
            return cls(task, (None,) * len(task.queries))
        if not isinstance(solutions, list | tuple):
            refuse(described(solutions), "solutions", "Give a list with one solution, or null, for each query.")
        if len(solutions) > limits.max_queries:
            raise too_large("solutions", f"{len(solutions)} of them", limits.max_queries, "solutions")
        checked = tuple(
            None if raw is None else checked_value(raw, f"solutions[{i}]", limits) for i, raw in enumerate(solutions)
        )
        for i, value in enumerate(checked):
            if value is not None and value_kind(value) != task.kind:
                refuse(f"a {value_kind(value)} in a task of kind {task.kind}", f"solutions[{i}]", _ONE_KIND)
        return cls(task, checked)


def _limits(info: ValidationInfo) -> Limits:
    limits = (info.context or {}).get("limits")
    return limits if isinstance(limits, Limits) else DEFAULT_LIMITS


def _checked_task(data: object, limits: Limits) -> dict[str, object]:
    if not isinstance(data, dict):
        refuse(f"got {described(data)}", "task", "Give an object with `demonstrations` and `queries`.")
    if len(data) > len(_FIELDS) or any(name not in _FIELDS for name in data):
        unknown = next(name for name in data if name not in _FIELDS)
        shown = ascii(unknown[:40]) if isinstance(unknown, str) else described(unknown)
        of_arc = " A task of ARC's form is read by `icl_engine.loaders.arc_task`." if "train" in data else ""
        refuse(f"unknown field {shown}", "task", f"The fields of a task are {', '.join(_FIELDS)}.{of_arc}")
    raw_id, raw_instruction = data.get("id"), data.get("instruction")
    task_id = "" if raw_id in (None, "") else checked_text(raw_id, "id", limits.max_id_chars)
    try:
        instruction = (
            None if raw_instruction is None else checked_text(raw_instruction, "instruction", limits.max_text_chars)
        )
        demonstrations, queries = _checked_content(data, limits, n_chars=len(instruction or ""))
    except TaskRefused as error:
        error.task_id = task_id or None
        raise
    return {
        "id": task_id or _fingerprint("icl_engine.task/1", demonstrations, instruction, queries)[:12],
        "demonstrations": demonstrations,
        "queries": queries,
        "instruction": instruction,
    }


def _checked_content(
    data: dict[str, object], limits: Limits, n_chars: int
) -> tuple[tuple[Demonstration, ...], tuple[Value, ...]]:
    raw_demonstrations = _checked_list(data, "demonstrations", limits.max_demonstrations)
    raw_queries = _checked_list(data, "queries", limits.max_queries)
    if not raw_demonstrations:
        raise TooFewDemonstrations("got none", field="demonstrations", remedy="Give at least one (input, output) pair.")
    if not raw_queries:
        refuse("got none", "queries", "Give at least one query.")
    _check_total(raw_demonstrations, raw_queries, n_chars, limits)
    demonstrations = tuple(
        _checked_demonstration(raw, f"demonstrations[{i}]", limits) for i, raw in enumerate(raw_demonstrations)
    )
    queries = tuple(checked_value(raw, f"queries[{i}]", limits) for i, raw in enumerate(raw_queries))
    for i, demonstration in enumerate(demonstrations):
        _check_kind(demonstration.input, f"demonstrations[{i}].input", demonstrations[0].input)
    for i, query in enumerate(queries):
        _check_kind(query, f"queries[{i}]", demonstrations[0].input)
    return demonstrations, queries


def _checked_list(data: dict[str, object], name: str, at_most: int) -> Sequence[object]:
    raw = data.get(name)
    if not isinstance(raw, list | tuple):
        refuse("missing" if name not in data else f"got {described(raw)}", name, f"Give a list of {name}.")
    if len(raw) > at_most:
        raise too_large(name, f"{len(raw)} of them", at_most, name)
    return raw


def _checked_demonstration(raw: object, field: str, limits: Limits) -> Demonstration:
    if isinstance(raw, Demonstration):
        raw = {"input": raw.input, "output": raw.output}
    if not isinstance(raw, dict):
        refuse(f"got {described(raw)}", field, "Give an object with `input` and `output`.")
    for name in ("input", "output"):
        if name not in raw:
            refuse("missing", f"{field}.{name}", "A demonstration has an `input` and an `output`.")
    given, wanted = (checked_value(raw[name], f"{field}.{name}", limits) for name in ("input", "output"))
    _check_kind(wanted, f"{field}.output", given)
    return Demonstration.model_construct(input=given, output=wanted)


def _check_kind(value: Value, field: str, other: Value) -> None:
    if value_kind(value) != value_kind(other):
        refuse(f"a {value_kind(value)} in a task of kind {value_kind(other)}", field, _ONE_KIND)


def _check_total(demonstrations: Sequence[object], queries: Sequence[object], n_chars: int, limits: Limits) -> None:
    for field, raw in _raw_values(demonstrations, queries):
        n_chars += n_chars_of(raw)
        if n_chars > limits.max_task_chars:
            got = f"{n_chars} characters and cells up to here"
            raise too_large(field, got, limits.max_task_chars, "characters and cells in the whole task")


def _raw_values(demonstrations: Sequence[object], queries: Sequence[object]) -> Iterator[tuple[str, object]]:
    for i, raw in enumerate(demonstrations):
        for name in ("input", "output"):
            value = raw.get(name) if isinstance(raw, dict) else getattr(raw, name, None)
            yield f"demonstrations[{i}].{name}", value
    for i, raw in enumerate(queries):
        yield f"queries[{i}]", raw


def _fingerprint(
    schema: str,
    demonstrations: tuple[Demonstration, ...],
    instruction: str | None,
    queries: tuple[Value, ...] | None = None,
) -> str:
    content: dict[str, object] = {
        "schema": schema,
        "demonstrations": [[demonstration.input, demonstration.output] for demonstration in demonstrations],
        "instruction": instruction,
    }
    if queries is not None:
        content["queries"] = queries
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _from_pair(pair: object, field: str) -> dict[str, object]:
    if isinstance(pair, Demonstration):
        return {"input": pair.input, "output": pair.output}
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        got = f"a list of {len(pair)}" if isinstance(pair, list | tuple) else described(pair)
        refuse(f"got {got}", field, "Give a pair: (input, output).")
    return {"input": pair[0], "output": pair[1]}


def _is_many(query: object, inputs_are_rows: bool) -> bool:
    if not isinstance(query, list | tuple) or not query:
        return isinstance(query, list | tuple)
    if isinstance(query[0], str):
        return True
    depth = _depth(query)
    return depth >= 3 or (depth == 2 and inputs_are_rows)


def _depth(value: object) -> int:
    depth = 0
    while isinstance(value, list | tuple) and depth < 3:
        depth += 1
        value = value[0] if value else None
    return depth
