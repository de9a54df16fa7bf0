"""Stored traces for people's eyes, in a terminal. Nothing of a trace reaches the terminal unescaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.table import Table
from rich.text import Text

from icl_engine.answer import Answer
from icl_engine.voting import Candidate
from policies.trace_log import TraceSummary, verdict_of
from router.render import TaskView, compact_value
from router.traces.replay import Replay
from router.traces.stored import StoredTrace
from router.traces.why import WhySentence
from router.values_shown import printable


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    style: str


_VERDICTS = {
    "right": _Word("right", "green"),
    "wrong": _Word("wrong", "red"),
    "partly": _Word("partly", "yellow"),
    "unknown": _Word("-", "dim"),
}


def list_table(found: tuple[TraceSummary, ...], *, wide: bool) -> Table:
    """Return one line a trace."""
    table = table_of()
    for name in ("trace", "when", "task", "arm", "outcome"):
        table.add_column(name, no_wrap=name != "task", overflow="ellipsis")  # what may be wrapped gives way first
    for name in ("seconds", "difficulty", *(("regret",) if wide else ())):
        table.add_column(name, justify="right", no_wrap=True)
    if wide:
        table.add_column("policy", overflow="ellipsis", style="dim")
    table.add_column("!", justify="right", style="yellow")
    for line in found:
        word = _VERDICTS[verdict_of(line.outcome)]
        arm = line.arm if line.answered_by in (None, line.arm) else f"{line.arm} ({line.answered_by})"
        regret = "" if line.regret is None else f"{line.regret:.3f}"
        table.add_row(
            Text(printable(line.trace_id[:8]), style="cyan"),
            Text(line.created_at[0 if wide else 5 : 16].replace("T", " "), style="dim"),
            Text(short_line(line.task_id, 24)),
            Text(printable(arm)),
            Text(word.text, style=word.style),
            f"{line.seconds:.2f}",
            f"{line.difficulty:.2f}",
            *((regret, Text(short_line(line.policy, 24))) if wide else ()),
            str(line.n_degraded or ""),
        )
    return table


def why_table(said: tuple[WhySentence, ...]) -> Table:
    """Return the sentences, each beside its topic."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for sentence in said:
        style = "bold" if sentence.topic == "verdict" else ""
        facts.add_row(sentence.topic.replace("_", " "), Text(printable(sentence.text), style=style))
    return facts


def task_view(stored: StoredTrace, symbols: bool) -> TaskView:
    """Return the task with the answers that were given."""
    answers = tuple(
        Answer(
            tuple(
                Candidate(each.value, each.n_votes, each.share, _or_least(each.log_probability))
                for each in answer.candidates
            ),
            confidence=answer.confidence,
            tokens=0,
        )
        for answer in stored.trace.answers
    )
    return TaskView(stored.trace.task, symbols, answers=answers)


def _or_least(log_probability: float | None) -> float:
    return float("-inf") if log_probability is None else log_probability


def votes_table(stored: StoredTrace) -> Table:
    """Return every candidate with its votes, and whether the answer in context had it too."""
    table = table_of("query", "candidate", "votes", "share", "in context")
    for i, answer in enumerate(stored.trace.answers):
        before = (
            {candidate.value for candidate in stored.trace.icl[i].candidates} if i < len(stored.trace.icl) else set()
        )
        for candidate in answer.candidates:
            table.add_row(
                str(i + 1),
                Text(compact_value(candidate.value)),
                str(candidate.n_votes),
                f"{candidate.share:.0%}",
                "the same" if candidate.value in before else "",
            )
    return table


def path_table(stored: StoredTrace) -> Table:
    """Return the steps one below the other, each with its time and a bar that is as long as its share."""
    trace = stored.trace
    longest = max((step.seconds for step in trace.path), default=0.0) or 1.0
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for step in trace.path:
        bar = "#" * max(1, round(24 * step.seconds / longest))
        table.add_row(
            Text(printable(step.name)), Text(f"{step.seconds * 1000:,.0f} ms", justify="right"), Text(bar, style="cyan")
        )
    return table


def replay_table(unequal: Sequence[Replay]) -> Table:
    """Return what is not the same, or why it could not be decided once more."""
    table = table_of("trace", "field", "recorded", "now")
    for each in unequal:
        name = Text(printable(each.trace_id[:8]), style="cyan")
        if each.problem is not None:
            table.add_row(name, "", Text(printable(each.problem)), "")
        for found in each.differences:
            table.add_row(name, found.field, Text(short_line(found.recorded)), Text(short_line(found.now)))
    return table


def replay_json(found: Replay) -> dict[str, object]:
    """Return a replay as plain data."""
    decided = found.decision
    return {
        "trace_id": found.trace_id,
        "equal": found.equal,
        "problem": found.problem,
        "differences": [asdict(each) for each in found.differences],
        "arm": None if decided is None else decided.arm,
        "propensities": None if decided is None else dict(decided.propensities),
        "reason": None if decided is None else decided.reason,
        "policy": None if decided is None else decided.policy,
    }


def table_of(*columns: str) -> Table:
    """Return an empty table in the manner of all of these."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in columns:
        table.add_column(Text(printable(name)), overflow="fold")
    return table


def short_line(text: str, at_most: int = 60) -> str:
    """Return the beginning of a text on one line, fit to be shown."""
    text = printable(text)
    return text if len(text) <= at_most else f"{text[: at_most - 1]}…"
