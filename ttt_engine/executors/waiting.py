"""Which of the batches that wait a worker takes next: one whose adapters lie with it, else the first. Locks nothing.

A batch is all that a worker has, but for those that may be beside others: of these it has as many as may be trained
together, and they go to whoever has the fewest. One whose worker died goes alone: it may be to blame.
"""

from __future__ import annotations

import concurrent.futures
import time
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic

from ttt_engine.executors.executor import Asked, Batch, Result

_ADAPTERS_KNOWN = 100_000  # of which it is remembered with whom they lie
_PASSED_AT_MOST = 16  # times that the first in the queue lets others go before


@dataclass(eq=False, slots=True)
class Job(Generic[Asked, Result]):
    """A batch on its way."""

    batch: Batch[Asked]
    adapters: frozenset[str]  # fingerprints of the demonstrations
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    since: float = field(default_factory=time.monotonic)
    deaths: int = 0  # of workers that had it
    passed: int = 0  # times that another was taken although this one came first
    wanted: bool = True  # somebody waits for it
    done: concurrent.futures.Future[Sequence[Result]] = field(default_factory=concurrent.futures.Future)

    @classmethod
    def of(cls, batch: Batch[Asked]) -> Job[Asked, Result]:
        """Return the job that a batch is."""
        return cls(batch, frozenset(task.demonstrations_fingerprint for task in batch.tasks))


@dataclass(eq=False, slots=True)
class Hand(Generic[Asked, Result]):
    """A worker, from when it is asked for, and what it has."""

    name: str
    is_there: bool = False  # and can be given something
    is_dead: bool = False
    under_way: list[Job[Asked, Result]] = field(default_factory=list)
    to_stop: list[Job[Asked, Result]] = field(default_factory=list)  # of which it is to be told that nobody wants them
    idle_since: float = field(default_factory=time.monotonic)


class Waiting(Generic[Asked, Result]):
    """The queue.

    Args:
        together: batches that are beside others, of one worker.
    """

    def __init__(self, together: int) -> None:
        self.jobs: list[Job[Asked, Result]] = []
        self._together = together
        self._with_whom: OrderedDict[str, str] = OrderedDict()  # adapter: worker

    def take(self, hand: Hand[Asked, Result], hands: Iterable[Hand[Asked, Result]]) -> Job[Asked, Result] | None:
        """Give a worker what it does next; None: there is nothing, or what there is falls to another.

        Args:
            hands: all workers.
        """
        if not self.jobs:
            return None
        first = self.jobs[0]
        others = [other for other in hands if other is not hand and other.is_there]
        candidates = self.jobs if first.passed < _PASSED_AT_MOST else [first]
        fitting = [job for job in candidates if self._has_room(hand, job) and self._falls_to(hand, job, others)]
        if not fitting:
            return None
        job = min(fitting, key=lambda job: self._distance(job, hand.name))  # of equals the first
        first.passed += 1
        self.jobs.remove(job)
        hand.under_way.append(job)
        self._note(job, hand.name)
        return job

    def forget(self, name: str) -> None:
        """Note that a worker is no more, and what lay with it."""
        for adapter in [adapter for adapter, worker in self._with_whom.items() if worker == name]:
            del self._with_whom[adapter]

    def _has_room(self, hand: Hand[Asked, Result], job: Job[Asked, Result]) -> bool:
        every = (job, *hand.under_way)
        sociable = all(each.batch.beside_others and not each.deaths for each in every)
        return len(every) == 1 or (len(every) <= self._together and sociable)

    def _falls_to(
        self, hand: Hand[Asked, Result], job: Job[Asked, Result], others: Sequence[Hand[Asked, Result]]
    ) -> bool:
        lying_with = {self._with_whom.get(adapter) for adapter in job.adapters}
        if hand.name in lying_with:
            return True
        free = [other for other in others if self._has_room(other, job)]
        if any(other.name in lying_with for other in free):
            return False
        return all(len(other.under_way) >= len(hand.under_way) for other in free)

    def _distance(self, job: Job[Asked, Result], name: str) -> tuple[int, int]:
        """Return how far a batch is from a worker: first comes whose adapters lie with it, last whose lie elsewhere."""
        lying_with = [self._with_whom[adapter] for adapter in job.adapters if adapter in self._with_whom]
        here = lying_with.count(name)
        return -here, len(lying_with) - here

    def _note(self, job: Job[Asked, Result], name: str) -> None:
        for adapter in job.adapters:
            self._with_whom[adapter] = name
            self._with_whom.move_to_end(adapter)
        while len(self._with_whom) > _ADAPTERS_KNOWN:
            self._with_whom.popitem(last=False)
