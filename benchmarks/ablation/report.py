"""The tables of an ablation, made of its rows alone: what each variant solves and takes, and its difference from the
default on the tasks that both have answered.
"""

from __future__ import annotations

import statistics
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass

from benchmarks.ablation.solving import Row
from benchmarks.ablation.variants import (
    DEFAULT,
    DIRECT,
    INPUTS_TOO,
    LAST,
    NO_TRANSFORMATIONS,
    SHARED,
    VARIANTS,
)
from router.bench.bootstrap import Interval, ratio_interval

LEAST_UNITS = 8  # tasks, or blocks that share an adapter, of which a direction is told
Place = tuple[str, str]  # set and task id
ByVariant = Mapping[str, Mapping[Place, Row]]

# the directions of the paper: variant, kind of task, what it found (tasks solved of 80; points on BIG-Bench Hard)
_PAPER = (
    (NO_TRANSFORMATIONS, "grid", "13 instead of 29", -1),
    (DIRECT, "grid", "18 instead of 29", -1),
    (SHARED, "grid", "22 instead of 29 (one adapter for all)", -1),
    (LAST, "grid", "26 instead of 29", -1),
    (DIRECT, "text", "-6.3", -1),
    (SHARED, "text", "+2.0 (one adapter for all)", 1),
    (LAST, "text", "-3.4", -1),
    (INPUTS_TOO, "text", "-1.9", -1),
)


def report(rows: Sequence[Row], head: str) -> str:
    """Return the tables as Markdown.

    Args:
        head: what the figures were made with and on.
    """
    by_variant: dict[str, dict[Place, Row]] = {name: {} for name in VARIANTS}
    for row in rows:
        by_variant.setdefault(row.variant, {})[row.set, row.task_id] = row
    return "\n\n".join([head, _main_table(by_variant), _directions(by_variant), _sets_table(by_variant)])


def mean_interval(values: Sequence[float], units: Sequence[Hashable], *, seed: int = 0) -> Interval:
    """Return the mean and its 95 % percentile interval.

    Args:
        units: what each value is drawn anew with, such as the other tasks of its block.
    """
    return ratio_interval(values, [1.0] * len(values), units, seed=seed)


@dataclass(frozen=True, slots=True)
class Paired:
    """A variant beside the default, on the tasks that both have answered."""

    theirs: tuple[Row, ...]
    ours: tuple[Row, ...]  # of the default, on the same tasks

    @classmethod
    def of(cls, by_variant: ByVariant, name: str, kind: str | None = None) -> Paired:
        """Take the tasks of a kind; None: of both."""
        ours, theirs = by_variant[DEFAULT], by_variant[name]
        both = [place for place, row in theirs.items() if place in ours and kind in (None, row.kind)]
        return cls(tuple(theirs[place] for place in both), tuple(ours[place] for place in both))

    @property
    def said(self) -> str:
        """Say how many points it is better, with the interval, and on how many tasks it is better and worse."""
        if not self.ours:
            return ""
        mean, low, high = (100 * each for each in astuple(self._interval))
        better, worse = sum(each > 0 for each in self.points), sum(each < 0 for each in self.points)
        return f"{mean:+.1f} ({low:+.1f} to {high:+.1f}); {better} better, {worse} worse"

    @property
    def direction(self) -> int | None:
        """1 or -1 where the interval is on one side of 0, else 0; None where what is drawn anew is too few to say."""
        if len({row.key for row in self.theirs}) < LEAST_UNITS:
            return None
        return int(self._interval.low > 0) - int(self._interval.high < 0)

    @property
    def points(self) -> list[float]:
        """By how much the share of right queries is higher, of each task."""
        return [share(theirs) - share(ours) for theirs, ours in zip(self.theirs, self.ours, strict=True)]

    @property
    def seconds_said(self) -> str:
        """Say how many times the default's seconds it takes, all tasks together, with the interval and their number:
        only of pairs that one commit has answered on one processor, in as many processes.
        """
        pairs = [
            (theirs, ours)
            for theirs, ours in zip(self.theirs, self.ours, strict=True)
            if (theirs.commit, theirs.processes, theirs.processor) == (ours.commit, ours.processes, ours.processor)
        ]
        if not pairs:
            return ""
        above, below = [_seconds(theirs) for theirs, _ in pairs], [_seconds(ours) for _, ours in pairs]
        ratio = ratio_interval(above, below, [theirs.key for theirs, _ in pairs])
        return f"{ratio.value:.2f} ({ratio.low:.2f}-{ratio.high:.2f}) of {len(pairs)}"

    @property
    def _interval(self) -> Interval:
        return mean_interval(self.points, [row.key for row in self.theirs])


def share(row: Row) -> float:
    """Return the share of a task's queries that are right: of a grid by one of two candidates, of text by the first."""
    return statistics.fmean(row.right_first if row.kind == "text" else row.right)


def _main_table(by_variant: ByVariant) -> str:
    lines = []
    for name, of_variant in by_variant.items():
        if not of_variant:
            continue
        grids = [row for row in of_variant.values() if row.kind == "grid"]
        texts = [row for row in of_variant.values() if row.kind == "text"]
        paired = {kind: Paired.of(by_variant, name, kind) for kind in ("grid", "text")}
        lines.append(
            [
                name,
                str(len(grids)),
                _percent(grids),
                "" if name == DEFAULT else paired["grid"].said,
                str(sum(all(row.right) for row in grids)),
                f"{100 * statistics.fmean(statistics.fmean(row.seen) for row in grids):.1f}" if grids else "",
                f"{len(texts)} ({sum(len(row.right) for row in texts)})",
                _percent(texts),
                "" if name == DEFAULT else paired["text"].said,
                f"{statistics.median(map(_seconds, of_variant.values())):.2f}",
                "" if name == DEFAULT else Paired.of(by_variant, name).seconds_said,
            ]
        )
    return _table(
        "variant|grid tasks|pass@2|points against the default|tasks solved|right under some view|text tasks "
        "(queries)|right|points against the default|seconds a task, median|times the default's, of so many tasks",
        lines,
    )


def _directions(by_variant: ByVariant) -> str:
    lines = []
    for name, kind, found, direction in _PAPER:
        paired = Paired.of(by_variant, name, kind)
        if paired.ours:
            words = {direction: "the paper's direction", 0: "not told apart", -direction: "the other direction"}
            so = "too few to say" if paired.direction is None else words[paired.direction]
            lines.append([f"{name}, {kind}", found, paired.said, so])
    return _table("against the default|the paper|here, points|so", lines)


def _sets_table(by_variant: ByVariant) -> str:
    sets = sorted({place[0] for of_variant in by_variant.values() for place in of_variant})

    def cells(of_variant: Mapping[Place, Row]) -> Iterable[str]:
        for name in sets:
            of_set = [share(row) for (of, _), row in of_variant.items() if of == name]
            yield f"{100 * statistics.fmean(of_set):.1f} of {len(of_set)}" if of_set else ""

    lines = [[name, *cells(of_variant)] for name, of_variant in by_variant.items() if of_variant]
    return _table("|".join(["right, % of so many tasks", *sets]), lines)


def _seconds(row: Row) -> float:
    return row.train_s + row.answer_s


def _percent(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    found = mean_interval([share(row) for row in rows], [row.key for row in rows])
    mean, low, high = (100 * each for each in astuple(found))
    return f"{mean:.1f} ({low:.0f}-{high:.0f})"


def _table(header: str, rows: Iterable[Sequence[str]]) -> str:
    names = header.split("|")
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
