"""What an evaluation says, as Markdown: what either way solves, gains and costs; and the card.

The tables stand between two marks in a document whose words are written by hand, so that one command brings its figures
up to date and leaves the rest alone.
"""

from __future__ import annotations

import hashlib
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from icl_engine.errors import UnreadableTaskFile
from icl_engine.loaders import task_kind
from router.bench.bootstrap import ratio_interval
from router.model_eval import ARMS, GRID_SETS, SETS, TEXT_SET, Result, TaskSet, shots_of

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


@dataclass(frozen=True, slots=True)
class Pair:
    """One query, answered in context and trained."""

    set: str
    task_id: str
    query: int
    icl: Result
    ttt: Result


def pairs_of(results: Iterable[Result]) -> list[Pair]:
    """Put together what both arms made of each query; of several runs of one query the last counts."""
    by_arm = _by_arm(results)
    icl, ttt = (by_arm.get(arm, {}) for arm in ARMS)
    return [Pair(*place, icl[place], ttt[place]) for place in icl if place in ttt]


def _by_arm(results: Iterable[Result]) -> dict[str, dict[tuple[str, str, int], Result]]:
    by_arm: dict[str, dict[tuple[str, str, int], Result]] = {}
    for result in results:
        by_arm.setdefault(result.arm, {})[result.set, result.task_id, result.query] = result
    return by_arm


def interval(pairs: Sequence[Pair], arm: str, *, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of the share of queries that an arm answers right.

    Queries of one task hang together, so tasks are drawn anew, each with all of its queries (percentile interval).
    Wilson's where each task has one query, and, of the tasks, where all are right or none: drawing says nothing then.
    """
    tasks = [(pair.set, pair.task_id) for pair in pairs]
    right = [getattr(pair, arm).right for pair in pairs]
    n_tasks, k, n = len(set(tasks)), sum(right), len(pairs)
    if n_tasks == n or k in (0, n):
        return wilson(round(k / n * n_tasks), n_tasks)
    found = ratio_interval(right, [1.0] * n, tasks, seed=seed)
    return found.low, found.high


def wilson(k: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share k / n."""
    if n == 0:
        return 0.0, 1.0
    centre = (k + z * z / 2) / (n + z * z)
    half = z * math.sqrt(k * (n - k) / n + z * z / 4) / (n + z * z)
    return centre - half, centre + half


def report(results: Sequence[Result], sets: Sequence[TaskSet]) -> str:
    """Return the tables of an evaluation as Markdown; `results` are of one model and one choice of settings.

    Of a text file only those results count that had as many demonstrations as it is shown with in `sets`.
    """
    shots = {labelled.task.id: shots_of(each.name, labelled) for each in sets for labelled in each.tasks}
    results = [each for each in results if each.shots == shots.get(each.task_id, each.shots)]
    pairs = pairs_of(results)
    grids = [pair for pair in pairs if pair.set in GRID_SETS]
    texts = [pair for pair in pairs if pair.set == TEXT_SET]
    commits = sorted({each.commit for pair in pairs for each in (pair.icl, pair.ttt) if each.commit})
    parts = [f"Answered at commit {', '.join(commits)}." if commits else "", _sets_table(grids, sets)]
    parts += [_other_arms_table(results)]
    parts += [_seconds_table([result for result in results if result.processes == 1])]
    for name in GRID_SETS:
        of_set = [pair for pair in grids if pair.set == name]
        if len({task_kind(pair.task_id) for pair in of_set}) > 1:
            parts += [f"### {name}, by kind", _kinds_table(of_set)]
    if texts:
        parts += [f"### {TEXT_SET}, by file", _texts_table(texts, sets)]
    return "\n\n".join(part for part in parts if part)


def _sets_table(pairs: Sequence[Pair], sets: Sequence[TaskSet]) -> str:
    rows = []
    for name in GRID_SETS:
        of_set = [pair for pair in pairs if pair.set == name]
        if of_set:
            known = next((each for each in sets if each.name == name), None)
            fit = "" if known is None else f"{known.n_fitting} of {known.n_all}"
            rows.append([name, fit, *_row(of_set)])
    if len(rows) > 1:
        rows.append(["all", "", *_row(pairs)])
    return _table(
        "set|tasks that fit|queries|in context|trained|ratio|only trained (n01)|only in context (n10)|whole tasks, "
        "in context|whole tasks, trained",
        rows,
    )


def _other_arms_table(results: Sequence[Result]) -> str:
    """Count what is right by arms that the other tables do not tell of: further ones, and one of the two by itself."""
    by_arm = _by_arm(results)
    told = {(pair.set, arm) for pair in pairs_of(results) for arm in ARMS}
    rows = []
    for name in SETS:
        for arm, answered in by_arm.items():
            of_set = [result for result in answered.values() if result.set == name]
            if of_set and (name, arm) not in told:
                right, first = sum(each.right for each in of_set), sum(each.right_first for each in of_set)
                rows.append([name, arm, str(len(of_set)), str(right), str(first)])
    return _table("set|arm|queries|right|right with the first candidate", rows) if rows else ""


def _row(pairs: Sequence[Pair]) -> list[str]:
    n = len(pairs)
    icl, ttt = (sum(getattr(pair, arm).right for pair in pairs) for arm in ("icl", "ttt"))
    gained = sum(pair.ttt.right and not pair.icl.right for pair in pairs)
    spoilt = sum(pair.icl.right and not pair.ttt.right for pair in pairs)
    return [
        str(n),
        *(_share(pairs, arm) for arm in ("icl", "ttt")),
        f"{ttt / icl:.2f}" if icl else "",
        f"{gained} ({gained / n:.2f})",
        f"{spoilt} ({spoilt / n:.2f})",
        *(_whole(pairs, arm) for arm in ("icl", "ttt")),
    ]


def _whole(pairs: Sequence[Pair], arm: str) -> str:
    """Count the tasks all of whose queries are right."""
    tasks: dict[tuple[str, str], bool] = {}
    for pair in pairs:
        place = pair.set, pair.task_id
        tasks[place] = tasks.get(place, True) and getattr(pair, arm).right
    return f"{sum(tasks.values())} of {len(tasks)}"


def _kinds_table(pairs: Sequence[Pair]) -> str:
    rows = []
    for kind in sorted({task_kind(pair.task_id) for pair in pairs}):
        of_kind = [pair for pair in pairs if task_kind(pair.task_id) == kind]
        counts = [str(sum(getattr(pair, arm).right for pair in of_kind)) for arm in ("icl", "ttt")]
        rows.append([kind, str(len(of_kind)), *counts])
    return _table("kind|queries|in context|trained", rows)


def _texts_table(pairs: Sequence[Pair], sets: Sequence[TaskSet]) -> str:
    tasks = {labelled.task.id: labelled for each in sets if each.name == TEXT_SET for labelled in each.tasks}
    rows = []
    for task_id in sorted({pair.task_id for pair in pairs}):
        of_file = [pair for pair in pairs if pair.task_id == task_id]
        labelled = tasks.get(task_id)
        majority = 0
        if labelled:  # of the queries that are both answered and asked for
            of_file = [pair for pair in of_file if pair.query < len(labelled.solutions)]
            answers = Counter(labelled.solutions[pair.query] for pair in of_file)
            majority = max(answers.values(), default=0)
        n = len(of_file)
        icl, ttt = (sum(getattr(pair, arm).right_first for pair in of_file) for arm in ("icl", "ttt"))
        rows.append(
            [
                task_id,
                str(len(labelled.task.demonstrations)) if labelled else "",
                str(n),
                f"{majority}" if labelled else "",
                str(icl),
                f"**{ttt}**" if ttt > majority else str(ttt),
                str(sum(pair.ttt.right for pair in of_file)),
            ]
        )
    return _table("file|shots|queries|always the commonest answer|in context|trained|trained, two candidates", rows)


def _seconds_table(results: Sequence[Result]) -> str:
    rows = []
    for name in GRID_SETS:
        for arm in ("icl", "ttt_short", "ttt"):
            # each query of a task says the seconds of the whole task; of several runs the last counts
            of_tasks = {each.task_id: each.seconds for each in results if (each.set, each.arm) == (name, arm)}
            if of_tasks:
                seconds = sorted(of_tasks.values())
                worst = seconds[math.ceil(0.95 * len(seconds)) - 1]
                rows.append([name, arm, str(len(seconds)), f"{statistics.median(seconds):.2f}", f"{worst:.2f}"])
    return _table("set|arm|tasks|seconds a task, median|95th percentile", rows) if rows else ""


def _table(header: str, rows: Sequence[Sequence[str]]) -> str:
    names = header.split("|")
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _share(pairs: Sequence[Pair], arm: str) -> str:
    low, high = interval(pairs, arm)
    k = sum(getattr(pair, arm).right for pair in pairs)
    return f"{k}, {k / len(pairs):.1%} ({100 * low:.0f}-{100 * high:.0f})"


def write_between_marks(document: Path, text: str) -> None:
    """Replace what stands between the marks of a document.

    Raises:
        UnreadableTaskFile: the document lacks the marks.
    """
    old = document.read_text(encoding="utf-8")
    head, begin, rest = old.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise UnreadableTaskFile(
            f"{document} lacks the lines {BEGIN} and {END}", field="out", remedy="Add them where the tables belong."
        )
    document.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}", encoding="utf-8")


def card(folder: Path) -> str:
    """Return the card of the model in `folder` as Markdown, with what can be read off its files.

    Raises:
        FileNotFoundError: there is no card or no weights.
    """
    words = (folder / "README.md").read_text(encoding="utf-8")
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    return (
        f"{words.rstrip()}\n\n## This copy\n{len(content):,} bytes, SHA-256 `{hashlib.sha256(content).hexdigest()}`\n"
    )
