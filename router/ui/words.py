"""The words of "why", in one place: the page says what the terminal says, letter for letter."""

from __future__ import annotations

from collections.abc import Sequence

from policies.records import EffectiveOutcome
from router.trace import Trace
from router.traces.why import explained


def why(trace: Trace, outcomes: Sequence[EffectiveOutcome]) -> tuple[str, ...]:
    """Return the sentences that explain a decision, one a line."""
    return tuple(sentence.text for sentence in explained(trace, outcomes))


def outcome_lines(outcomes: Sequence[EffectiveOutcome]) -> tuple[str, ...]:
    """Say what came of a decision, as each source reports it."""
    said = []
    for outcome in outcomes:
        reported = outcome.reported
        line = f"{reported.kind} {reported.value:g}, says {reported.source}, {(reported.created_at or '')[:19]}"
        for correction in outcome.corrections:
            line += f"; corrected to {correction.value:g} ({correction.reason})"
        said.append(line + (f"; said {outcome.n_repeats} more times" if outcome.n_repeats else ""))
    return tuple(said)
