"""Outcome matrices as files: long form, one line for each task, seed and arm; CSV, gzipped CSV or parquet.

What the project measures and what anybody else has logged are the same kind of file. Nothing in it is run.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from policies.errors import OutcomesRefused
from policies.outcome_matrix import OutcomeMatrix

if TYPE_CHECKING:
    import numpy.typing as npt

REQUIRED = ("task", "family", "seed", "arm", "quality", "cost_s")
OPTIONAL = ("set", "group", "feature_cost_s", "train_s", "tokens")
_BY_ARM = ("quality", "cost_s", "train_s", "tokens")
_TRUTH = {"true": 1.0, "false": 0.0}

Line = Mapping[str, object]  # of a file: values are text in a CSV, typed in a parquet
Key = tuple[str, str, int]  # set, task, seed


def read_outcomes(path: Path, *, ignore: Sequence[str] = ()) -> OutcomeMatrix:
    """Read a CSV (also gzipped) or parquet file with the columns `task, family, seed, arm, quality, cost_s`.

    The columns `set`, `group` (what tasks share that stand or fall together, as the queries of one file do),
    `feature_cost_s`, `train_s` and `tokens` are read where they are there; every other column is a feature: a number
    that is the same for all arms of a task and seed, and empty where it is not known.

    Args:
        ignore: columns to leave out, such as texts.

    Raises:
        OutcomesRefused: no such file, a column is missing, or a value in it cannot be; says which and where.
    """
    try:
        lines = _parquet_lines(path) if path.suffix == ".parquet" else _csv_lines(path)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        _refuse(str(path), str(error), "Give a CSV, a gzipped CSV or a parquet file.")
    if not lines:
        _refuse(str(path), "holds no outcome", f"Give lines with {', '.join(REQUIRED)}.")
    missing = [name for name in REQUIRED if name not in lines[0]]
    if missing:
        _refuse(f"{path}, column {missing[0]!r}", "missing", f"Needed are {', '.join(REQUIRED)}.")
    try:
        return matrix_of(lines, ignore=ignore)
    except OutcomesRefused as error:
        raise OutcomesRefused(f"{path}, {error.field}", error.got, remedy=error.remedy) from None


def matrix_of(lines: Sequence[Line], *, ignore: Sequence[str] = ()) -> OutcomeMatrix:
    """Put lines in long form together; the rows are in the order in which task and seed first come.

    Raises:
        OutcomesRefused: as for `read_outcomes`; lines are counted from 1.
    """
    names = [
        name for name in dict.fromkeys(name for line in lines for name in line) if name not in (*REQUIRED, *OPTIONAL)
    ]
    names = [name for name in names if name not in ignore]
    keys: dict[Key, int] = {}
    arms: dict[str, int] = {}
    where: list[tuple[int, int]] = []
    seen: dict[tuple[int, int], int] = {}
    for n, line in enumerate(lines, 1):
        row, column = keys.setdefault(_key(n, line), len(keys)), arms.setdefault(_text(n, line, "arm"), len(arms))
        if (row, column) in seen:
            again = f"the same task, seed and arm as in line {seen[row, column]}"
            _refuse(f"line {n}", again, "Give each once, or differing seeds.")
        seen[row, column] = n
        where.append((row, column))
    by_arm = {name: _by_arm(lines, where, name, (len(keys), len(arms))) for name in _BY_ARM}
    by_row = {name: _by_row(lines, where, name, len(keys)) for name in (*names, "feature_cost_s")}
    families = _names_by_row(lines, where, "family", _text)
    groups = _names_by_row(lines, where, "group", _group)
    return OutcomeMatrix(
        tasks=tuple(task for _, task, _ in keys),
        families=families,
        sets=tuple(name for name, _, _ in keys),
        seeds=tuple(seed for _, _, seed in keys),
        arms=tuple(arms),
        quality=by_arm["quality"],
        cost_s=by_arm["cost_s"],
        feature_names=tuple(names),
        features=np.array([by_row[name] for name in names], dtype=np.float64).reshape(len(names), len(keys)).T,
        feature_cost_s=np.nan_to_num(by_row["feature_cost_s"]),
        train_s=None if np.isnan(by_arm["train_s"]).all() else by_arm["train_s"],
        tokens=None if np.isnan(by_arm["tokens"]).all() else by_arm["tokens"],
        groups=groups,
    )


def write_outcomes(matrix: OutcomeMatrix, path: Path) -> None:
    """Write a matrix as `.csv`, `.csv.gz` or `.parquet`; the same matrix gives the same bytes as CSV.

    Raises:
        OutcomesRefused: the name ends otherwise, or parquet is asked for without pyarrow.
    """
    lines = list(_lines_of(matrix))
    if path.suffix == ".parquet":
        _write_parquet(lines, path)
        return
    if path.suffixes[-1:] != [".csv"] and path.suffixes[-2:] != [".csv", ".gz"]:
        _refuse(str(path), f"ends in {path.suffix!r}", "Name it .csv, .csv.gz or .parquet.")
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(lines[0]) if lines else REQUIRED, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _shown(value) for name, value in line.items()} for line in lines)
    content = text.getvalue().encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, 9, mtime=0) if path.suffix == ".gz" else content)


def _lines_of(matrix: OutcomeMatrix) -> Iterable[dict[str, object]]:
    """The matrix in long form; an arm that was not measured has no line, and a feature stands with the first arm only:
    it is the same for all of them.
    """
    grouped = matrix.groups != matrix.tasks
    for row in range(len(matrix)):
        first = True
        for column, arm in enumerate(matrix.arms):
            if np.isnan(matrix.quality[row, column]) and np.isnan(matrix.cost_s[row, column]):
                continue
            line: dict[str, object] = {
                "set": matrix.sets[row],
                "family": matrix.families[row],
                "task": matrix.tasks[row],
                **({"group": matrix.groups[row]} if grouped else {}),
                "seed": matrix.seeds[row],
                "arm": arm,
                "quality": float(matrix.quality[row, column]),
                "cost_s": float(matrix.cost_s[row, column]),
            }
            for name, values in (("train_s", matrix.train_s), ("tokens", matrix.tokens)):
                if values is not None:
                    line[name] = float(values[row, column])
            line["feature_cost_s"] = float(matrix.feature_cost_s[row]) if first else math.nan
            for name, value in zip(matrix.feature_names, matrix.features[row], strict=True):
                line[name] = float(value) if first else math.nan
            first = False
            yield line


def _csv_lines(path: Path) -> list[Line]:
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    lines = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), restkey=""))
    for n, line in enumerate(lines, 1):
        if "" in line:
            _refuse(f"line {n}", "more values than there are columns", "Put texts with commas between quotation marks.")
    return list(lines)


def _parquet_lines(path: Path) -> list[Line]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        _no_parquet()
    try:
        lines: list[Line] = parquet.read_table(path).to_pylist()
    except ArrowException as error:
        _refuse(str(path), str(error), "Give a whole parquet file.")
    return lines


def _write_parquet(lines: Sequence[Line], path: Path) -> None:
    try:
        from pyarrow import Table, parquet
    except ImportError:
        _no_parquet()
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(Table.from_pylist([dict(line) for line in lines]), path)


def _no_parquet() -> NoReturn:
    remedy = "Install ttt-router[report], or give the file as CSV."
    raise OutcomesRefused("parquet", "pyarrow, which reads and writes it, is not installed", remedy=remedy) from None


def _key(n: int, line: Line) -> Key:
    seed = _number(n, line, "seed")
    if math.isnan(seed) or seed != int(seed):
        _refuse(f"line {n}, seed", f"got {line.get('seed')!r}", "Give a whole number; 0 where there is none.")
    return str(line.get("set") or ""), _text(n, line, "task"), int(seed)


def _text(n: int, line: Line, name: str) -> str:
    value = line.get(name)
    if value is None or value == "":
        _refuse(f"line {n}, {name}", "empty", "Give a name.")
    return str(value)


def _group(n: int, line: Line, name: str) -> str:
    return str(line.get(name) or "") or _text(n, line, "task")


def _names_by_row(
    lines: Sequence[Line], where: Sequence[tuple[int, int]], name: str, read: Callable[[int, Line, str], str]
) -> tuple[str, ...]:
    names: dict[int, str] = {}
    for n, (line, (row, _)) in enumerate(zip(lines, where, strict=True), 1):
        if names.setdefault(row, read(n, line, name)) != read(n, line, name):
            _refuse(f"line {n}, {name}", "differs between the arms of a task", "Give one for each task.")
    return tuple(names[row] for row in sorted(names))


def _number(n: int, line: Line, name: str) -> float:
    value = line.get(name)
    if value is None or value == "":
        return math.nan
    try:
        number = _TRUTH.get(value.strip().lower()) if isinstance(value, str) else None
        return float(value) if number is None else number  # type: ignore[arg-type]  # what is no number raises
    except (TypeError, ValueError):
        remedy = "Give a number, or leave the column out (`ignore`)."
        _refuse(f"line {n}, {name}", f"got {str(value)[:40]!r}", remedy)


def _by_arm(
    lines: Sequence[Line], where: Sequence[tuple[int, int]], name: str, shape: tuple[int, int]
) -> npt.NDArray[np.float64]:
    values = np.full(shape, np.nan)
    for n, (line, place) in enumerate(zip(lines, where, strict=True), 1):
        values[place] = _number(n, line, name)
    return values


def _by_row(lines: Sequence[Line], where: Sequence[tuple[int, int]], name: str, n_rows: int) -> npt.NDArray[np.float64]:
    values = np.full(n_rows, np.nan)
    for n, (line, (row, _)) in enumerate(zip(lines, where, strict=True), 1):
        value = _number(n, line, name)
        if math.isnan(value):
            continue
        if not math.isnan(values[row]) and values[row] != value:
            remedy = "A feature is known before an arm is chosen: give one value for each task and seed, or ignore it."
            _refuse(f"line {n}, {name}", f"{value:g} here and {values[row]:g} with another arm", remedy)
        values[row] = value
    return values


def _shown(value: object) -> object:
    if not isinstance(value, float):
        return value
    if math.isnan(value):
        return ""
    return int(value) if value == int(value) and abs(value) < 1e15 else repr(value)


def _refuse(field: str, got: str, remedy: str) -> NoReturn:
    raise OutcomesRefused(field, got, remedy=remedy)
