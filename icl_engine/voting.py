"""Voting over answers to the augmented prompts of one query, each already undone into the query's own terms.

`vote_hierarchically` is the paper's: inside each transformation first, then over all. `vote_flat` is plain majority.
`vote_by_score` goes by how likely each candidate is under all views. None depends on the order of the votes. Knows
nothing of tasks or models.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from icl_engine.task import Value

IDENTITY = "identity"
PER_GROUP = 3  # candidates that each transformation sends on


@dataclass(frozen=True, slots=True)
class Vote:
    """One answer to the query."""

    value: Value
    group: str  # the transform it was answered under
    log_probability: float  # nats, of the whole answer


@dataclass(frozen=True, slots=True)
class Candidate:
    """A value that was voted for, with what spoke for it."""

    value: Value
    n_votes: int
    share: float  # of all votes, 0 to 1
    log_probability: float  # nats, mean over its votes; after `vote_by_score` its score


def vote_hierarchically(votes: Iterable[Vote]) -> tuple[Candidate, ...]:
    """Return at most three candidates, best first, by the paper's two stages; none for no votes.

    1. Each group sends on its three most frequent values. Where a group of grids has fewer than three different ones,
       the second and third place are filled by repair: the majority of each row, then of each column. That comes out
       as its most frequent grid again, so a unanimous group sends its grid three times. Text is not repaired.
    2. The candidates that were sent on most often win.

    Ties, in both stages: more votes in the identity group (the paper's rule); then, ours, more votes over all groups,
    higher mean log-probability, and last a fixed order of the values. The repository of the paper also treats the pool
    of all votes as one more group; the paper does not, and neither does this.

    Source: Akyürek et al. 2024 (arXiv 2411.07279), hierarchical voting.
    """
    tally = _Tally(votes)
    sent_on = Counter(value for group in tally.groups() for value in _stage_one(group, tally))
    return tuple(tally.candidate(value) for value in tally.ranked(sent_on)[:PER_GROUP])


def vote_flat(votes: Iterable[Vote]) -> tuple[Candidate, ...]:
    """Return every value voted for, most frequent first, ties as in `vote_hierarchically`; none for no votes."""
    tally = _Tally(votes)
    return tuple(tally.candidate(value) for value in tally.ranked(tally.all))


def vote_by_score(votes: Iterable[Vote], scores: Mapping[Value, float]) -> tuple[Candidate, ...]:
    """Return every value that was voted for and has a score, best score first, ties as in `vote_hierarchically`.

    Args:
        scores: nats, of each candidate: its log-probability under all views, summed or as their mean (a product of
            experts). The same views for all candidates, or they cannot be compared.

    Source: Franzen et al. 2025, "Product of Experts with LLMs".
    """
    tally = _Tally(votes)
    by_votes = [value for value in tally.ranked(tally.all) if value in scores]
    known = {value: -math.inf if math.isnan(scores[value]) else scores[value] for value in by_votes}
    ranked = sorted(by_votes, key=lambda value: -known[value])  # stable
    return tuple(replace(tally.candidate(value), log_probability=known[value]) for value in ranked)


def oracle(votes: Iterable[Vote], solution: Value) -> bool:
    """Say whether any vote is right: what a perfect choice would come to. For evaluation, never to answer."""
    return any(vote.value == solution for vote in votes)


class _Tally:
    """The votes, counted, and the one ranking that all stages share."""

    def __init__(self, votes: Iterable[Vote]) -> None:
        self.votes = tuple(votes)
        self.all = Counter(vote.value for vote in self.votes)
        self.identity = Counter(vote.value for vote in self.votes if vote.group == IDENTITY)
        log_probabilities: dict[Value, list[float]] = {}
        for vote in self.votes:
            # NaN would leave the order undefined; it is as bad as an impossible answer.
            log_probability = -math.inf if math.isnan(vote.log_probability) else vote.log_probability
            log_probabilities.setdefault(vote.value, []).append(log_probability)
        self.mean = {value: _mean(each) for value, each in log_probabilities.items()}

    def groups(self) -> list[Counter[Value]]:
        names = sorted({vote.group for vote in self.votes})
        return [Counter(vote.value for vote in self.votes if vote.group == name) for name in names]

    def ranked(self, counts: Counter[Value]) -> list[Value]:
        def key(value: Value) -> tuple[int, int, int, float, str]:
            return -counts[value], -self.identity[value], -self.all[value], -self.mean[value], repr(value)

        return sorted(counts, key=key)

    def candidate(self, value: Value) -> Candidate:
        n_votes = self.all[value]
        return Candidate(value, n_votes, n_votes / len(self.votes), self.mean[value])


def _stage_one(group: Counter[Value], tally: _Tally) -> list[Value]:
    ranked = tally.ranked(group)
    n_missing = max(PER_GROUP - len(ranked), 0)
    # The paper's repair: the majority of each row, then of each column. Of at most two different grids, and with ties
    # to the better, every majority is the better one's (a test holds votes against the majorities written out).
    repaired = [] if isinstance(ranked[0], str) else ranked[:1] * n_missing
    return ranked[:PER_GROUP] + repaired


def _mean(values: Sequence[float]) -> float:
    # fsum is exact, so the mean does not depend on the order; it cannot add infinities of both signs.
    return -math.inf if -math.inf in values else math.fsum(values) / len(values)
