"""What follows from feedback: of the answer given, of the answer in context that was there as well, and of audits.

Where the right answer comes back, both answers in the trace can be scored, whichever arm was drawn. Where the given one
was only accepted or rejected, something may follow for the other: that is kept apart, and what does not follow is left
open, not called wrong.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeGuard

from icl_engine.errors import TaskRefused
from icl_engine.task import LabelledTask, Value
from icl_engine.values import described
from policies.decision import TRAINING
from policies.errors import OutcomeConflict, RecordRefused
from policies.ledger import Ledger
from policies.records import OutcomeRow
from router.learning_rows import AUDIT_RATE, AUDITED, GIVEN, SUNK, implied_as, known_as
from router.trace import IN_CONTEXT_INSTEAD, TRAINED_INSTEAD, AnswerTrace, Trace
from router.trace_errors import TraceNotKept, UnreadableTrace
from router.traces.stored import read_trace

RightAnswer = Value | Sequence[Value | None] | list[list[int]]


@dataclass(frozen=True, slots=True)
class Audits:
    """Which solves in context are audited: also trained on, once it is known what would have been right.

    `later` takes the work off the answering path, as `LearningLoop.later` does.
    """

    rate: float
    later: Callable[[Callable[[], None]], None]

    def drawn(self, trace_id: str) -> bool:
        """Draw by the trace's id, so that the same solve is drawn or not whenever it is asked."""
        number = int(hashlib.sha256(f"audit:{trace_id}".encode()).hexdigest()[:12], 16)
        return number / 16**12 < self.rate


def solutions_of(trace: Trace, answer: RightAnswer) -> tuple[Value | None, ...]:
    """Return what is right for each query; one answer will do for one query.

    Raises:
        RecordRefused: it is none, there are more or fewer than queries, or nothing is known of any query.
    """
    task, n = trace.task, len(trace.task.queries)
    given = [answer] if n == 1 and not _is_each(answer, task.kind) else answer
    remedy = "Give the value that is right, or for several queries a list with one for each, None where not known."
    if not _is_list(given) or len(given) != n:
        got = f"got {len(given) if _is_list(given) else described(given)} for {n} queries"
        raise RecordRefused("answer", got, remedy=remedy, task_id=task.id)
    try:
        solutions = LabelledTask.parse(task, list(given)).solutions
    except TaskRefused as error:
        raise RecordRefused("answer", str(error), remedy=remedy, task_id=task.id) from error
    if all(solution is None for solution in solutions):
        remedy = "Give what is right for one query at least; where that is not known, say `correct` or nothing."
        raise RecordRefused("answer", "got None for every query", remedy=remedy, task_id=task.id)
    return solutions


def outcomes_of_answer(
    trace: Trace, solutions: Sequence[Value | None], *, source: str, audits: Audits | None
) -> tuple[OutcomeRow, ...]:
    """Return what the right answers say: of the answer given, of `icl`'s, and with which probability of `ttt`'s."""
    judged = {GIVEN: _score(trace.answers, solutions), known_as(SUNK): _score(trace.icl, solutions)}
    for arm in _without_answer(trace):
        judged[known_as(arm)] = 0.0
    rows = [OutcomeRow(trace.trace_id, source, kind, value) for kind, value in judged.items()]
    if audits is not None and AUDITED in trace.decision.propensities:
        rows.append(OutcomeRow(trace.trace_id, source, AUDIT_RATE, audits.rate))
    return tuple(rows)


def record_verdict(ledger: Ledger, trace_id: str, quality: float, *, source: str) -> None:
    """Write down how good the answer was, and what follows from it for the one in context.

    Raises:
        UnknownTrace: no such solve is recorded.
        OutcomeConflict: the same source has already said otherwise.
        RecordRefused: the value is not in [0, 1].
        LedgerUnavailable: the ledger cannot be written.
    """
    recorded = ledger.add_outcome(OutcomeRow(trace_id, source, GIVEN, quality))
    try:
        trace = read_trace(ledger, trace_id).trace
    except (TraceNotKept, UnreadableTrace):  # what was said counts; what follows from it cannot be told
        return
    ledger.add_outcomes(outcomes_of_verdict(trace, recorded.value, source=source))


def say_verdict(ledger: Ledger, trace_id: str, quality: float, *, source: str, reason: str) -> bool:
    """Write down how good the answer was, as `record_verdict` does; say whether that corrects what the source said
    before.

    Args:
        reason: kept with a correction.

    Raises:
        UnknownTrace, RecordRefused, LedgerUnavailable: as for `record_verdict`.
    """
    with suppress(OutcomeConflict):
        record_verdict(ledger, trace_id, quality, source=source)
    said = (each for each in ledger.effective_outcomes(trace_id) if each.reported.judges_the_answer)
    if any(each.value == quality for each in said if each.reported.source == source):
        return False
    correction = ledger.correct_outcome(trace_id, source=source, kind=GIVEN, value=quality, reason=reason)
    _correct_what_followed(ledger, trace_id, quality, source=source, revision=correction.revision)
    return True


def say_answer(
    ledger: Ledger,
    trace: Trace,
    solutions: Sequence[Value | None],
    *,
    source: str,
    audits: Audits | None,
    reason: str | None,
) -> None:
    """Write down what the right answers say, and where the source has said otherwise before, that it is corrected.

    Args:
        reason: kept with a correction; None: nothing is corrected.

    Raises:
        OutcomeConflict: the source has said otherwise, and no reason is given.
        UnknownTrace, LedgerUnavailable: as for `record_verdict`.
    """
    first, *rest = outcomes_of_answer(trace, solutions, source=source, audits=audits)
    if reason is None:
        ledger.add_outcome(first)
        for row, recorded in zip(rest, ledger.add_outcomes(rest), strict=True):
            if row.kind != AUDIT_RATE and row.value != recorded.value:
                raise OutcomeConflict(
                    row.decision_id, source=source, kind=row.kind, recorded=recorded.value, given=row.value
                )
        return
    ledger.add_outcomes([first, *rest])
    _correct(ledger, [row for row in (first, *rest) if row.kind != AUDIT_RATE], reason)


def say_audited(ledger: Ledger, trace_id: str, quality: float, *, reason: str | None) -> None:
    """Write down how good the answer by training was.

    Args:
        reason: why what an earlier audit said no longer stands; None: it stands.

    Raises:
        UnknownTrace, LedgerUnavailable: as for `record_verdict`.
    """
    row = OutcomeRow(trace_id, "audit", known_as(AUDITED), quality)
    ledger.add_outcomes([row])
    if reason is not None:
        _correct(ledger, [row], reason)


def _correct(ledger: Ledger, rows: Sequence[OutcomeRow], reason: str) -> None:
    """Correct what stands, of one decision and source, where the rows say otherwise."""
    trace_id, source = rows[0].decision_id, rows[0].source
    said = {each.reported.kind: each for each in ledger.effective_outcomes(trace_id) if each.reported.source == source}
    for row in rows:
        if said[row.kind].value != row.value:
            ledger.correct_outcome(trace_id, source=source, kind=row.kind, value=row.value, reason=reason)


def _correct_what_followed(ledger: Ledger, trace_id: str, quality: float, *, source: str, revision: int) -> None:
    """Say anew what a corrected verdict says of the answer in context. Where that is nothing any more, nothing is
    written: `ExperienceReader` leaves out what was said before the correction.

    Where both are one answer, what the source said of it by a right answer is corrected as well.
    """
    try:
        trace = read_trace(ledger, trace_id).trace
    except (TraceNotKept, UnreadableTrace):
        return
    reason = f"follows from correction {revision} of what was said of the answer given"
    said = {each.reported.kind: each for each in ledger.effective_outcomes(trace_id) if each.reported.source == source}
    known, implied = known_as(SUNK), implied_as(SUNK)
    is_one = _values(trace.answers) == _values(trace.icl)
    if is_one and known in said and said[known].value != quality:
        ledger.correct_outcome(trace_id, source=source, kind=known, value=quality, reason=reason)
    follows = [row for row in outcomes_of_verdict(trace, quality, source=source) if row.kind == implied]
    if implied not in said:
        ledger.add_outcomes(follows)
        return
    for row in follows:
        ledger.correct_outcome(trace_id, source=source, kind=implied, value=row.value, reason=reason)


def outcomes_of_verdict(trace: Trace, quality: float, *, source: str) -> tuple[OutcomeRow, ...]:
    """Return what an accepted or rejected answer says of the one in context, if anything."""
    empty = _without_answer(trace)
    nothing = tuple(OutcomeRow(trace.trace_id, source, known_as(arm), 0.0) for arm in empty)
    if SUNK in (*empty, trace.decision.arm) or quality not in (0.0, 1.0):
        return nothing
    given, in_context = _values(trace.answers), _values(trace.icl)
    if given == in_context:
        follows = quality
    elif quality == 1.0 and all(len(values) == 1 for values in given):  # what was accepted is the one right answer
        follows = float(all(g[0] in c for g, c in zip(given, in_context, strict=True)))
    else:
        return nothing
    return (*nothing, OutcomeRow(trace.trace_id, source, implied_as(SUNK), follows))


def _without_answer(trace: Trace) -> tuple[str, ...]:
    """Return the arms that were worth nothing, whatever is right, because they left a query without an answer: `icl`,
    whichever arm was drawn, and the arm drawn, where training or the answer in context had to stand in for it.

    An answer that was given is judged as given, and one that a policy found too unsure may be right.
    """
    drawn = trace.decision.arm
    arms = (SUNK,) if not all(_values(trace.icl)) and _values(trace.answers) != _values(trace.icl) else ()
    had_to_train = trace.answered_by in TRAINING and TRAINED_INSTEAD in trace.degraded
    gave_none = had_to_train or IN_CONTEXT_INSTEAD in trace.degraded
    return (*arms, drawn) if gave_none and drawn not in (SUNK, *TRAINING) else arms


def _score(answers: Sequence[AnswerTrace], solutions: Sequence[Value | None]) -> float:
    """Return 1 where one of the candidates is right for every query whose solution is known."""
    pairs = zip(_values(answers), solutions, strict=True)
    return float(all(known is None or known in values for values, known in pairs))


def _values(answers: Sequence[AnswerTrace]) -> list[tuple[Value, ...]]:
    return [tuple(candidate.value for candidate in answer.candidates[:2]) for answer in answers]


def _is_each(answer: object, kind: str) -> bool:
    """Tell a list of one answer from an answer that is a list itself."""
    if not _is_list(answer) or not len(answer):
        return False
    first = answer[0]
    return kind == "text" or first is None or (_is_list(first) and len(first) > 0 and _is_list(first[0]))


def _is_list(answer: object) -> TypeGuard[Sequence[object]]:
    return isinstance(answer, Sequence) and not isinstance(answer, str)
