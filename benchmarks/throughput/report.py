"""Tables of a run, as Markdown, and their place between the marks of a document. Reads records, measures nothing."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.throughput import decoding, growth, routing
from benchmarks.throughput.in_processes import VARIANTS, in_processes
from benchmarks.throughput.peers import FAIR, FAIR_IN_BF16, PEERS, TRL
from benchmarks.throughput.records import NOT_INSTALLED, WARM_UP, About, Record
from benchmarks.throughput.rounds import LEAST_ROUNDS, MOST_OTHER_CORES, quiet_rounds, ratio_said
from benchmarks.throughput.variants import IN_BF16

NAIVE = PEERS[0].name
_A_TASK = re.compile(r"task_\d+_s")


def marks(title: str) -> tuple[str, str]:
    """Return the lines between which the tables of results of this title stand."""
    return f"<!-- results on {title}: begin -->", f"<!-- results on {title}: end -->"


def write_between_marks(document: Path, title: str, text: str) -> None:
    """Replace what stands between a document's marks for results of this title (`About.title`).

    Raises:
        ValueError: the document lacks the marks.
    """
    begin, end = marks(title)
    head, found_begin, rest = document.read_text(encoding="utf-8").partition(begin)
    _, found_end, tail = rest.partition(end)
    if not found_begin or not found_end:
        raise ValueError(f"{document} lacks the lines {begin} and {end}. Add them where the tables belong.")
    document.write_text(f"{head}{begin}\n{text}\n{end}{tail}", encoding="utf-8")


def report(about: About, records: Sequence[Record]) -> str:
    """Return the head and the tables of a run."""
    parts = [_head(about, records)]
    for subject in dict.fromkeys(each.subject for each in records):
        for section, table in _TABLES.items():
            of_section = [each for each in records if (each.subject, each.section) == (subject, section)]
            if of_section:
                parts.append(_said(table, Measured(of_section, allow_noise=about.allow_noise)))
                if section == "compare" and about.versions.get("trl") == NOT_INSTALLED:
                    parts.append(f"{TRL}: not installed.")
    grown = [each for each in records if each.section == "growth"]
    if grown:
        parts.append(_said(_growth, Measured(grown, allow_noise=about.allow_noise)))
    return "\n\n".join(parts)


def _said(table: Callable[[Measured], str], measured: Measured) -> str:
    if measured.n_quiet:
        return table(measured)
    return f"### {measured.section}, {measured.subject}\n\n{measured.said}."


class Measured:
    """The records of one section, and which of their rounds count.

    Attributes:
        records: those that count.
        warm_up: seconds of the first call of each name and place, which does not.
        n_rounds: rounds that were run, of all places.
        n_quiet: those that count.
    """

    def __init__(self, records: Sequence[Record], *, allow_noise: bool) -> None:
        self.section, self.subject = records[0].section, records[0].subject
        self.warm_up = {(each.place, each.name): each.seconds for each in records if each.round == WARM_UP}
        noises: dict[str, dict[int, list[Record]]] = {}
        for each in records:
            if each.round != WARM_UP:
                noises.setdefault(each.place, {}).setdefault(each.round, []).append(each)
        self.n_rounds = 0
        self.records: list[Record] = []
        self.n_quiet = 0
        for by_round in noises.values():
            names = {each.name for of in by_round.values() for each in of}
            by_round = {i: of for i, of in by_round.items() if {each.name for each in of} == names}  # not broken off
            known = {i: [each.noise for each in of if each.noise is not None] for i, of in by_round.items()}
            self.n_rounds += len(by_round)
            for i in quiet_rounds(known, allow_noise=allow_noise):
                self.n_quiet += 1
                self.records += by_round[i]

    def seconds(self, name: str, place: str = "", per: str | None = None) -> dict[int, float]:
        """Return seconds by round, or seconds for one of what a figure counts."""
        found = self.of(name, place)
        return {each.round: each.seconds / (each.figures[per] if per else 1.0) for each in found}

    def figure(self, name: str, figure: str, place: str = "") -> float | None:
        """Return the median of a figure over the rounds; None where it was not taken."""
        found = [each.figures[figure] for each in self.of(name, place) if figure in each.figures]
        return statistics.median(found) if found else None

    def fraction(self, name: str, floor: str, of: str | None, place: str = "") -> str:
        """Say what part of the seconds, or of a stage's, the floor is, over all rounds."""
        both = [
            (each.figures[floor], each.seconds if of is None else each.figures[of])
            for each in self.of(name, place)
            if floor in each.figures and (of is None or of in each.figures)
        ]
        floor_s, spent_s = (sum(part) for part in zip(*both, strict=True)) if both else (0.0, 0.0)
        return f"{floor_s / spent_s:.1%}" if spent_s else ""

    def a_task(self, name: str, figure: str) -> float | None:
        """Return a figure by the task, over all rounds; None where it was not taken."""
        found = [each.figures for each in self.of(name) if figure in each.figures]
        return sum(each[figure] for each in found) / sum(each["tasks"] for each in found) if found else None

    def over_parts(self, name: str, figure: str, *, by_tasks: bool = False) -> float | None:
        """Return the sum of a figure over the parts of the tasks, of each the median of its rounds; None where it was
        not taken.

        Args:
            by_tasks: sum it up as often as a part has tasks.
        """
        by_part: dict[float, list[float]] = {}
        for each in self.of(name):
            if figure in each.figures:
                times = each.figures["tasks"] if by_tasks else 1.0
                by_part.setdefault(each.figures.get("part", 0.0), []).append(times * each.figures[figure])
        return sum(map(statistics.median, by_part.values())) if by_part else None

    def task_percentile(self, name: str, share: float) -> float | None:
        """Return the seconds that a share of the tasks take at most; None where they are not known one by one."""
        by_task: dict[tuple[float, str], list[float]] = {}
        for each in self.of(name):
            for figure in filter(_A_TASK.fullmatch, each.figures):
                by_task.setdefault((each.figures.get("part", 0.0), figure), []).append(each.figures[figure])
        if not by_task:  # of results from before they were kept one by one
            return self.figure(name, f"p{100 * share:.0f}_s")
        return float(np.percentile([statistics.median(each) for each in by_task.values()], 100 * share))

    def of(self, name: str, place: str = "") -> list[Record]:
        """Return the records of what has a name, at a place."""
        return [each for each in self.records if (each.name, each.place) == (name, place)]

    @property
    def said(self) -> str:
        """Say how many rounds there were."""
        words = f"{self.n_quiet} of {self.n_rounds} rounds count"
        return words if self.n_quiet else f"{words}: the machine was never quiet, and nothing is said"


def _head(about: About, records: Sequence[Record]) -> str:
    noises = [each.noise for each in records if each.noise is not None]
    loads = [noise.load for noise in noises]
    stolen = max((noise.stolen_cores for noise in noises), default=0.0)
    versions = ", ".join(f"{name} {version}" for name, version in about.versions.items())
    rule = (
        "rounds count whatever else ran"
        if about.allow_noise
        else f"rounds in which another process took more than {MOST_OTHER_CORES:g} of a core are left out"
    )
    lines = [
        f"- {about.device}; {about.processor}, {about.cores} cores, {about.threads} threads; {versions}; "
        f"commit {about.commit}",
        f"- `{about.command}`",
        f"- load average {min(loads, default=0.0):.1f} to {max(loads, default=0.0):.1f}, at most {stolen:.2f} cores "
        f"stolen; {rule}",
        "- ratios are medians over rounds of what both took in the same round, with the bootstrap 95 % interval from "
        f"{LEAST_ROUNDS} rounds on; of fewer with the lowest and the highest, which are no interval. Where a round is "
        "a part of the tasks, an interval is of other tasks, too; tasks an hour, seconds and shares of floors are of "
        "all rounds in sum, where long tasks weigh more than in the ratios",
    ]
    if about.plan.get("prefers_bfloat16") == "False":
        lines.append(
            f"- the router takes no bfloat16 for this model on this device, and neither do the approximate variants; "
            f"what has `{IN_BF16}` in its name is left out unless asked for"
        )
    if about.kind != "cuda":
        lines.append("- not measured on a GPU")
    return "\n".join(lines)


def _compared(measured: Measured) -> str:
    names = {each.name for each in measured.records}
    known = {variant.name: variant for variant in VARIANTS}
    rows, times = [], []
    others = [peer for peer in (FAIR_IN_BF16, in_processes(FAIR)) if peer in names]
    for name in [each for each in known if each in names]:
        of, tasks = measured.of(name), measured.over_parts(name, "tasks") or 0.0
        per_hour = 3600 * sum(each.figures["tasks"] for each in of) / sum(each.seconds for each in of)
        solved, differs = measured.over_parts(name, "solved"), measured.figure(name, "differs")
        loss = None if known[name].other_steps else measured.over_parts(name, "loss", by_tasks=True)
        rows.append(
            [
                name,
                known[name].column,
                f"{per_hour:,.0f}",
                _versus(measured, NAIVE, name),
                _versus(measured, FAIR, name),
                *(_versus(measured, peer, name) for peer in others),
                "noise" if solved is None else f"{solved:.0f} of {tasks:.0f}",
                "" if loss is None else f"{loss / tasks:.4f}",
                "" if differs is None else f"{differs:.1e}",
            ]
        )
        passed = measured.over_parts(name, "train_tokens")
        peak = max((each.figures["peak_bytes"] for each in of if "peak_bytes" in each.figures), default=None)
        times.append(
            [
                name,
                *(_seconds(measured.a_task(name, stage)) for stage in ("load_s", "train_s", "answer_s")),
                *(_seconds(measured.task_percentile(name, share)) for share in (0.5, 0.95)),
                "" if passed is None else f"{passed:,.0f}",
                measured.fraction(name, "train_floor_s", "train_s"),
                measured.fraction(name, "answer_floor_s", "answer_s"),
                f"{measured.warm_up.get(('', name), 0.0):.2f}",
                "" if peak is None else f"{peak / 2**30:.2f}",
            ]
        )
    about = "\n".join(f"- {each.name}: {each.about}" for each in known.values() if each.name in names)
    flops, moved = (_any(measured, each) for each in ("flops_per_s", "bytes_per_s"))
    return "\n\n".join(
        [
            f"### {_COMPARED[measured.section]}, {measured.subject}",
            f"{_tasks_said(measured)}; {measured.said}. torch.mm at the model's shapes: {flops / 1e9:,.1f} GFLOP/s; "
            f"copying as many bytes as its weights have: {moved / 1e9:,.1f} GB/s. The grammar that keeps "
            "answers grids is ours alone; a peer's answer that is no grid has no vote. The loss is the mean over the "
            "steps, and is not told of variants with other steps. The last column of the first "
            "table says how far the first task's adapter is from P1's, relative, in the norm.",
            _table(
                "variant|column|tasks an hour|times P0|times P1|"
                + "".join(f"times {peer.replace(' fair naive', '')}|" for peer in others)
                + "tasks solved|loss, nats a token|apart from P1's",
                rows,
            ),
            _table(
                "variant|load, s a task|train|answer|a task, median s|95th percentile|tokens trained on, padding "
                "included|of the training floor|of the answering floor|first call with one task, s|peak GiB of the GPU",
                times,
            ),
            about,
        ]
    )


def _decoded(measured: Measured) -> str:
    rows = []
    for place in dict.fromkeys(each.place for each in measured.records):
        peft = measured.seconds(decoding.PEFT, place)
        for name in (decoding.PEFT, decoding.SAME_LOOP, decoding.OWN_LOOP):
            seconds = measured.seconds(name, place)
            if not seconds:  # a run that was broken off
                continue
            same = measured.figure(name, "same_rows", place)
            tokens = (measured.figure(name, "rows", place) or 0.0) * (measured.figure(name, "new_tokens", place) or 0.0)
            rows.append(
                [
                    place,
                    name,
                    f"{tokens / statistics.median(seconds.values()):,.0f}",
                    ratio_said(peft, seconds),
                    "" if same is None else f"{same:.0%}",
                    measured.fraction(name, "floor_s", None, place),
                ]
            )
    table = _table("adapters|way|tokens a second|times PEFT|rows that PEFT writes alike|of the floor", rows)
    return f"### Answering with many adapters at once, {measured.subject}\n\n{measured.said}.\n\n{table}"


def _routed(measured: Measured) -> str:
    direct, rows = measured.seconds(routing.DIRECT, per="solves"), []
    for name in (routing.DIRECT, routing.PROBE, routing.ROUTER):
        seconds = measured.seconds(name, per="solves")
        if seconds:
            rows.append([name, f"{1000 * statistics.median(seconds.values()):.2f}", ratio_said(seconds, direct)])
    solves = measured.figure(routing.DIRECT, "solves") or 0.0
    table = _table("way|ms a task|takes so many times the direct answer", rows)
    said = f"{solves:.0f} answers a round; {measured.said}."
    return f"### The router where it answers in context, {measured.subject}\n\n{said}\n\n{table}"


def _remembered(measured: Measured) -> str:
    records = measured.records
    quarter = max(1, len(records) // 4)
    lines = []
    for figure, said in (("resident_bytes", "resident memory"), ("device_bytes", "memory of the GPU")):
        taken = [each.figures[figure] / 2**20 for each in records if figure in each.figures]
        if taken:
            second, last = (statistics.median(part) for part in (taken[quarter : 2 * quarter + 1], taken[-quarter:]))
            lines.append(
                f"- {said} after {len(taken)} tasks: median of the second quarter {second:,.1f} MiB, of the last "
                f"{last:,.1f} MiB: {1024 * (last - second) / (2 * quarter):+.1f} KiB a task"
            )
    return "\n".join([f"### Memory over tasks, {measured.subject}\n", *lines])


def _growth(measured: Measured) -> str:
    rows = []
    for place in dict.fromkeys(each.place for each in measured.records):
        own = measured.seconds(growth.OURS, place, per="tasks")
        theirs = measured.seconds(FAIR, place, per="tasks")
        if not own or not theirs:  # a run that was broken off
            continue
        rows.append(
            [
                place,
                *(f"{1000 * statistics.median(each.values()):,.0f}" for each in (own, theirs)),
                ratio_said(theirs, own),
                *(measured.fraction(name, "train_floor_s", None, place) for name in (growth.OURS, FAIR)),
            ]
        )
    table = _table("at|ours, ms of training a task|P1|times P1|of the floor, ours|P1", rows)
    return f"### Growth of training\n\n{measured.said}.\n\n{table}"


_COMPARED = {"compare": "Training and answering", "ladder": "Lever by lever"}
_TABLES: Mapping[str, Callable[[Measured], str]] = {
    "compare": _compared,
    "ladder": _compared,
    "decode": _decoded,
    "route": _routed,
    "memory": _remembered,
}


def _tasks_said(measured: Measured) -> str:
    tasks = max(measured.over_parts(each.name, "tasks") or 0.0 for each in measured.records)
    a_round = max(each.figures["tasks"] for each in measured.records)
    wanted = max(each.figures.get("of_tasks", tasks) for each in measured.records)
    said = (
        f"{tasks:.0f} tasks" if tasks == wanted else f"{tasks:.0f} of {wanted:.0f} tasks, as not all parts have a round"
    )
    return said + (f", {a_round:.0f} of them a round" if a_round < tasks else "")


def _versus(measured: Measured, other: str, name: str) -> str:
    slow = measured.seconds(other)
    return ratio_said(slow, measured.seconds(name)) if slow and name != other else ""


def _any(measured: Measured, figure: str) -> float:
    return next((each.figures[figure] for each in measured.records if figure in each.figures), 0.0)


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _table(header: str, rows: Iterable[Sequence[str]]) -> str:
    names = header.split("|")
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
