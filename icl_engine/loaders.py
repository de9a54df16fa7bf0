"""Reading tasks from files: ARC JSON (one task, a dict of tasks, a folder), BIG-Bench Hard JSON, and JSONL of `Task`.

The size of a file is looked at before it is read. Whatever is wrong is a `TaskRefused` that names the task, and the
field in the file's own words. `take` chooses a few of many tasks, spread over their kinds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from icl_engine.errors import TaskRefused, TaskTooLarge, TooFewDemonstrations, UnreadableTaskFile
from icl_engine.task import LabelledTask, Limits, Task
from icl_engine.values import DEFAULT_LIMITS, decoded_json, described

_SHAPES = (
    "Known are ARC JSON (`train` and `test`, or a dict of such tasks), BBH JSON (`examples` of `input` and `target`), "
    "JSON or JSONL of tasks (`demonstrations` and `queries`), and a folder of these."
)
_LINES = (".jsonl", ".ndjson")
_HEX_ID = re.compile(r"[0-9a-f]{8}|[0-9a-f]{12}")  # ARC's ids, and the default id of a task


def load_tasks(
    path: str | Path, *, shots: int = 10, limits: Limits = DEFAULT_LIMITS, instruction: str | None = None
) -> list[LabelledTask]:
    """Read every task of a file, or of the JSON and JSONL files of a folder in the order of their names.

    A test input of ARC is a query, so a task with several test inputs is one task. Of a BBH file the first `shots`
    examples are the demonstrations, and example n of the rest (counted from 0) is the one query of task "<stem>-<n>".

    Args:
        shots: Demonstrations per task of a BBH file; other files say themselves.
        instruction: Given to every task that has none of its own.

    Raises:
        UnreadableTaskFile: no file, no JSON, not a known shape, or no task in it.
        TaskRefused: a task in it cannot be used; `task_id` and `field` say which and where.
    """
    if shots < 1:
        raise TaskRefused(f"got {shots}", field="shots", remedy="Give at least 1.")
    path = Path(path)
    try:
        files = _files(path, limits)
        tasks = [task for file in files for task in _read(file, shots, limits, instruction)]
    except OSError as error:
        raise UnreadableTaskFile(error.strerror or "cannot be read", field=str(path), remedy=_SHAPES) from error
    if not tasks:
        raise UnreadableTaskFile("holds no task", field=str(path), remedy=_SHAPES)
    return tasks


def is_arc_task(data: object) -> bool:
    """Say whether this is meant as a task of ARC's form, whatever may be wrong with it."""
    return isinstance(data, dict) and ("train" in data or "test" in data)


def arc_task(
    data: object,
    task_id: str = "",
    place: str = "",
    *,
    limits: Limits = DEFAULT_LIMITS,
    instruction: str | None = None,
) -> LabelledTask:
    """Make a task of untrusted data in the form of ARC's files: a dict with `train` and `test`.

    Args:
        task_id: the form has none of its own; where none is given it is made of what the task holds.
        place: put before the name of a field that is refused.

    Raises:
        TaskRefused: as for `Task.parse`; the field is named in the form's own words.
    """
    with _named(task_id, lambda field: place + _in_words_of_arc(field)):
        if not isinstance(data, dict):
            raise TaskRefused(f"got {described(data)}", field="task", remedy=_SHAPES)
        tests = data.get("test")
        if not isinstance(tests, list):
            got = f"got {described(tests)}" if "test" in data else "missing"
            raise TaskRefused(got, field="queries", remedy="Give a list of objects with `input`.")
        if len(tests) > limits.max_queries:
            remedy = f"At most {limits.max_queries} are accepted; the limit is a setting."
            raise TaskTooLarge(f"got {len(tests)} of them", field="queries", remedy=remedy)
        for i, test in enumerate(tests):
            if not isinstance(test, dict) or "input" not in test:
                raise TaskRefused("no `input`", field=f"test[{i}]", remedy="Give an object with `input`.")
        content = {"id": task_id, "instruction": instruction, "queries": [test["input"] for test in tests]}
        if "train" in data:
            content["demonstrations"] = data["train"]
        task = Task.parse(content, limits)
        return LabelledTask.parse(task, [test.get("output") for test in tests], limits)


def take(tasks: Sequence[LabelledTask], limit: int) -> list[LabelledTask]:
    """Return at most `limit` tasks spread over the kinds: one of each kind in turn, kinds and tasks in their order.

    Raises:
        TaskRefused: `limit` is below 1.
    """
    if limit < 1:
        raise TaskRefused(f"got {limit}", field="limit", remedy="Give at least 1.")
    kinds: dict[str, list[LabelledTask]] = {}
    for task in tasks:
        kinds.setdefault(task_kind(task.task.id), []).append(task)
    rounds = range(max(map(len, kinds.values()), default=0))
    return [members[i] for i in rounds for members in kinds.values() if i < len(members)][:limit]


def task_kind(task_id: str) -> str:
    """Return the id without its number at the end (`1d_fill_12` is of kind `1d_fill`); ids of bare hex are one kind."""
    return "" if _HEX_ID.fullmatch(task_id) else re.sub(r"[_-]?[0-9]+$", "", task_id)


def _files(path: Path, limits: Limits) -> list[Path]:
    if path.is_dir():
        files = sorted(child for child in path.iterdir() if child.suffix in (".json", *_LINES) and child.is_file())
        if not files:
            _unreadable("a folder without JSON files", str(path))
    elif not path.exists():
        raise UnreadableTaskFile("no such file", field=str(path), remedy="Check the path.")
    elif not path.is_file():
        _unreadable("neither a file nor a folder", str(path))
    else:
        files = [path]
    n_bytes = sum(file.stat().st_size for file in files)
    if n_bytes > limits.max_file_bytes:
        remedy = f"At most {limits.max_file_bytes} bytes are read; split the file, or raise the limit."
        raise UnreadableTaskFile(f"{n_bytes} bytes", field=str(path), remedy=remedy)
    return files


def _read(file: Path, shots: int, limits: Limits, instruction: str | None) -> Iterator[LabelledTask]:
    with file.open("rb") as stream:
        content = stream.read(limits.max_file_bytes + 1)
    if file.suffix in _LINES:
        yield from _read_lines(content.removeprefix(b"\xef\xbb\xbf"), file, limits, instruction)
        return
    _check_stretches(content, file, limits)
    data = _decoded(content, str(file), limits.max_file_bytes)
    if not isinstance(data, dict):
        _unreadable(f"holds {described(data)}", str(file))
    elif "examples" in data:
        yield from _bbh_tasks(data["examples"], file, shots, limits, instruction)
    elif "demonstrations" in data:
        yield _plain_task(data, file.stem, "", limits, instruction)
    elif is_arc_task(data):
        yield arc_task(data, file.stem, limits=limits, instruction=instruction)
    elif any(map(is_arc_task, data.values())):
        for task_id, task in data.items():
            yield arc_task(task, task_id, f"{_shown(task_id)}.", limits=limits, instruction=instruction)
    else:
        shown = ", ".join(_shown(key) for key in list(data)[:3]) or "nothing"
        _unreadable(f"an object of unknown shape, with {shown}", str(file))


def _check_stretches(content: bytes, file: Path, limits: Limits) -> None:
    """Refuse a text of megabytes before it is parsed: no task within the limits goes that long without a quote."""
    start = 0
    while len(content) - start > limits.max_task_json_chars:
        quote = content.rfind(b'"', start + 1, start + limits.max_task_json_chars + 1)
        if quote < 0:
            keys = re.findall(rb'"([\w ]{1,40})"\s*:\s*"?$', content[max(0, start - 80) : start + 1])
            place = f"{file}, byte {start}" + (f", {keys[0].decode('ascii')}" if keys else "")
            got = f"over {limits.max_task_json_chars} bytes on end without a quotation mark"
            remedy = f"A text has at most {limits.max_text_chars} characters, and a grid {limits.max_cells} cells."
            raise UnreadableTaskFile(got, field=place, remedy=remedy)
        start = quote


def _read_lines(content: bytes, file: Path, limits: Limits, instruction: str | None) -> Iterator[LabelledTask]:
    for n, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            data = _decoded(line, f"{file}, line {n}", limits.max_task_json_chars)
            yield _plain_task(data, f"{file.stem}-{n}", f"line {n}.", limits, instruction)


def _decoded(content: bytes, field: str, max_bytes: int) -> object:
    try:
        return decoded_json(content, field, max_bytes)
    except TaskRefused as error:
        raise UnreadableTaskFile(error.message, field=field, remedy=error.remedy) from None


def _plain_task(data: object, task_id: str, place: str, limits: Limits, instruction: str | None) -> LabelledTask:
    with _named(task_id, lambda field: place + field):
        if not isinstance(data, dict):
            raise TaskRefused(f"got {described(data)}", field="task", remedy=_SHAPES)
        content = {key: value for key, value in data.items() if key != "solutions"}
        if content.get("instruction") is None:
            content["instruction"] = instruction
        if content.get("id") in (None, ""):
            content["id"] = task_id
        return LabelledTask.parse(Task.parse(content, limits), data.get("solutions"), limits)


def _in_words_of_arc(field: str) -> str:
    field = re.sub(r"^demonstrations\b", "train", field)
    field = re.sub(r"^queries(\[\d+\])", r"test\1.input", field)
    field = re.sub(r"^solutions(\[\d+\])", r"test\1.output", field)
    return re.sub(r"^queries\b", "test", field)


def _bbh_tasks(
    examples: object, file: Path, shots: int, limits: Limits, instruction: str | None
) -> Iterator[LabelledTask]:
    if not isinstance(examples, list):
        remedy = "Give a list of objects with `input` and `target`."
        raise UnreadableTaskFile(f"got {described(examples)}", field="examples", remedy=remedy, task_id=file.stem)
    if len(examples) <= shots:
        got = f"got {len(examples)}, of which {shots} would be demonstrations"
        remedy = "Give fewer shots: at least one example must be left as a query."
        raise TooFewDemonstrations(got, field="examples", remedy=remedy, task_id=file.stem)
    for i, example in enumerate(examples):
        if not isinstance(example, dict) or not {"input", "target"} <= example.keys():
            remedy = "Give an object with `input` and `target`."
            raise TaskRefused("lacks `input` or `target`", field=f"examples[{i}]", remedy=remedy, task_id=file.stem)
    demonstrations = [_pair(example) for example in examples[:shots]]
    for n, example in enumerate(examples[shots:], start=shots):
        content = {"demonstrations": demonstrations, "queries": [example["input"]], "instruction": instruction}
        with _named(f"{file.stem}-{n}", partial(_in_words_of_bbh, n=n)) as task_id:
            task = Task.parse({"id": task_id, **content}, limits)
            labelled = LabelledTask.parse(task, [example["target"]], limits)
        yield labelled


def _pair(example: dict[str, Any]) -> dict[str, object]:
    return {"input": example["input"], "output": example["target"]}


def _in_words_of_bbh(field: str, n: int) -> str:
    field = re.sub(r"^demonstrations(\[\d+\])", r"examples\1", field).replace(".output", ".target")
    return re.sub(r"^solutions\[0\]", f"examples[{n}].target", re.sub(r"^queries\[0\]", f"examples[{n}].input", field))


@contextmanager
def _named(task_id: str, rename: Callable[[str], str]) -> Iterator[str]:
    """Put the id of the task, and the file's own name of the field, on a refusal that passes."""
    try:
        yield task_id
    except TaskRefused as error:
        field, shown = rename(error.field), error.task_id or _shown(task_id)
        raise type(error)(error.message, field=field, remedy=error.remedy, task_id=shown) from None


def _shown(key: str) -> str:
    """A key of untrusted JSON, fit to be printed: it may be megabytes long, or half of a surrogate pair."""
    return key if len(key) <= DEFAULT_LIMITS.max_id_chars and key.isprintable() else ascii(key[:40])


def _unreadable(message: str, field: str) -> NoReturn:
    raise UnreadableTaskFile(message, field=field, remedy=_SHAPES)
