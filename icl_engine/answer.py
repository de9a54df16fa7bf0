"""The record of an answered query: at most two candidates, best first, and how sure the engine is."""

from __future__ import annotations

import math
import sys
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

    @classmethod
    def of(cls, *values: Value, confidence: float, tokens: int = 0) -> Answer:
        """Return an answer that no vote was taken on: these values, best first; with none there is no answer.

        Args:
            confidence: 0 to 1, of the first being right.
        """
        log_probability = math.log(max(confidence, sys.float_info.min))
        return cls(
            tuple(Candidate(value, 1, 1.0 / len(values), log_probability) for value in values), confidence, tokens
        )

    @property
    def value(self) -> Value | None:
        """The best candidate's value."""
        return self.candidates[0].value if self.candidates else None

    @property
    def values(self) -> tuple[Value, ...]:
        """All candidates' values, best first."""
        return tuple(candidate.value for candidate in self.candidates)
