"""The tables of an ablation, made of its rows alone: what each variant solves and takes, and its difference from the
default on the tasks that both have answered.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

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

_RESAMPLES = 10_000
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


def mean_interval(values: Sequence[float], *, seed: int = 0) -> tuple[float, float, float]:
    """Return the mean and its 95 % percentile interval; tasks are drawn anew, with all of their queries.

    Source: Efron and Tibshirani 1993, ch. 13 (the percentile interval).
    """
    found = np.asarray(values, dtype=float)
    drawn = np.random.default_rng(seed).choice(found, size=(_RESAMPLES, len(found)))
    low, high = np.percentile(drawn.mean(axis=1), (2.5, 97.5))
    return float(found.mean()), float(low), float(high)


@dataclass(frozen=True, slots=True)
class Paired:
    """A variant beside the default, on the tasks of one kind that both have answered."""

    theirs: tuple[float, ...]  # share of each task's queries that are right
    ours: tuple[float, ...]  # likewise, of the default
    seconds: tuple[float, ...]  # of the variant, of each task, times the default's

    @classmethod
    def of(cls, by_variant: ByVariant, name: str, kind: str) -> Paired:
        """Take the tasks of a kind: grids by two candidates, text by the first."""
        ours, theirs = (
            {place: row for place, row in by_variant[each].items() if row.kind == kind} for each in (DEFAULT, name)
        )
        both = [place for place in theirs if place in ours]
        return cls(
            tuple(share(theirs[place]) for place in both),
            tuple(share(ours[place]) for place in both),
            tuple(_seconds(theirs[place]) / max(_seconds(ours[place]), 1e-9) for place in both),
        )

    @property
    def said(self) -> str:
        """Say how many points it is better, with the interval, and on how many tasks it is better and worse."""
        if not self.ours:
            return ""
        apart = [theirs - ours for theirs, ours in zip(self.theirs, self.ours, strict=True)]
        mean, low, high = (100 * each for each in mean_interval(apart))
        better, worse = sum(each > 0 for each in apart), sum(each < 0 for each in apart)
        return f"{mean:+.1f} ({low:+.1f} to {high:+.1f}); {better} better, {worse} worse"

    @property
    def direction(self) -> int:
        """1 or -1 where the interval is on one side of 0, else 0."""
        if not self.ours:
            return 0
        _, low, high = mean_interval([theirs - ours for theirs, ours in zip(self.theirs, self.ours, strict=True)])
        return int(low > 0) - int(high < 0)


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
        ratios = [each for pairs in paired.values() for each in pairs.seconds]
        lines.append(
            [
                name,
                str(len(grids)),
                _percent([share(row) for row in grids]),
                "" if name == DEFAULT else paired["grid"].said,
                str(sum(all(row.right) for row in grids)),
                _percent([statistics.fmean(row.seen) for row in grids], interval=False),
                f"{len(texts)} ({sum(len(row.right) for row in texts)})",
                _percent([share(row) for row in texts]),
                "" if name == DEFAULT else paired["text"].said,
                f"{statistics.median(map(_seconds, of_variant.values())):.2f}",
                f"{statistics.median(ratios):.2f}" if ratios else "",
            ]
        )
    return _table(
        "variant|grid tasks|pass@2|points against the default|tasks solved|right under some view|text tasks "
        "(queries)|right|points against the default|seconds a task, median|times the default's",
        lines,
    )


def _directions(by_variant: ByVariant) -> str:
    lines = []
    for name, kind, found, direction in _PAPER:
        paired = Paired.of(by_variant, name, kind)
        if paired.ours:
            words = {direction: "the paper's direction", 0: "not told apart", -direction: "the other direction"}
            lines.append([f"{name}, {kind}", found, paired.said, words[paired.direction]])
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


def _percent(shares: Sequence[float], *, interval: bool = True) -> str:
    if not shares:
        return ""
    mean, low, high = (100 * each for each in mean_interval(shares))
    return f"{mean:.1f} ({low:.0f}-{high:.0f})" if interval else f"{mean:.1f}"


def _table(header: str, rows: Iterable[Sequence[str]]) -> str:
    names = header.split("|")
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
