"""The record of an answered query: at most two candidates, best first, and how sure the engine is."""

from __future__ import annotations

from dataclasses import dataclass

from icl_engine.task import Value
from icl_engine.voting import Candidate

MAX_CANDIDATES = 2  # pass@2, as ARC counts


@dataclass(frozen=True, slots=True)
class Answer:
    """What an arm says to one query."""

    candidates: tuple[Candidate, ...]  # at most two, best first; empty where no view gave a value
    confidence: float  # 0..1: probability of the greedy answer, or share of the views that agree on the best candidate
    tokens: int  # read and written to get it

    @property
    def value(self) -> Value | None:
        """The best candidate's value."""
        return self.candidates[0].value if self.candidates else None

    @property
    def values(self) -> tuple[Value, ...]:
        """All candidates' values, best first."""
        return tuple(candidate.value for candidate in self.candidates)
