"""What an executor is: something that has batches of tasks solved by workers, wherever these are.

A worker holds a base model and solves a batch at a time; what solving means is its own affair, and so is what is asked
of it. An executor knows tasks, and that those with the same demonstrations share an adapter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from icl_engine.task import Task

Asked = TypeVar("Asked")
Result = TypeVar("Result")
AskedOf = TypeVar("AskedOf", contravariant=True)
ResultOf = TypeVar("ResultOf", covariant=True)

Reach = Literal["process", "machine", "cluster"]  # where workers are, and so what they can share with this process


def never() -> bool:
    """Say of a batch that it is wanted."""
    return False


def uncounted(seconds: float) -> None:
    """Take no note of what a worker did."""


@dataclass(frozen=True, slots=True)
class Batch(Generic[Asked]):
    """Tasks that one worker solves together."""

    tasks: tuple[Task, ...]
    asked: Asked  # of each of them; goes to the worker as it is
    deadline: float | None = None  # on the clock of time.monotonic in this process; waiting for a worker counts
    cancelled: Callable[[], bool] = never  # looked at in this process, also while a worker has it
    beside_others: bool = False  # a worker may have it at the same time as others that say so
    spent: Callable[[float], None] = uncounted  # told what its worker tells, also of a batch given up; in any thread


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a batch elsewhere. An error is a value here: so it comes back as it was raised."""

    results: Sequence[Any] = ()
    error: Exception | None = None
    spent_s: float = 0.0  # that the worker has told of


class Worker(Protocol[AskedOf, ResultOf]):
    """Solves batches; several at a time, each in a thread of its own, where they say that they may be beside others."""

    def run(
        self,
        tasks: Sequence[Task],
        asked: AskedOf,
        deadline_s: float | None,
        cancelled: Callable[[], bool],
        spent: Callable[[float], None],
    ) -> Sequence[ResultOf]:
        """Return what came of each task, in their order.

        Args:
            deadline_s: seconds that are left, above 0; None: as long as it takes.
            cancelled: to be looked at before every step; nobody wants the results any more.
            spent: to be told of the seconds of work on tasks that are solved among others, whatever comes of them.
        """
        ...

    def bury(self, worker: str) -> None:
        """Take note that another worker is dead: what it was training is free to be trained."""
        ...

    def close(self) -> None:
        """Give back what the worker holds."""
        ...


MakeWorker = Callable[[str], Worker[Asked, Result]]  # from the worker's name


class Executor(Protocol[Asked, Result]):
    """Has batches solved by workers that it makes."""

    @property
    def reach(self) -> Reach:
        """Where its workers are."""
        ...

    @property
    def adapters_together(self) -> int:
        """How many adapters may be trained in one batch."""
        ...

    @property
    def fault(self) -> str | None:
        """Why nothing is solved now, as far as that is known without asking anybody."""
        ...

    def start(self, make: MakeWorker[Asked, Result]) -> None:
        """Say how a worker is made; none is made before there is work.

        Raises:
            ExecutorUnavailable: it has workers of another kind already.
        """
        ...

    def check(self) -> str:
        """Say what there is to solve with; makes no worker.

        Raises:
            ExecutorUnavailable: nothing, or it cannot be reached.
        """
        ...

    def run(self, batches: Sequence[Batch[Asked]]) -> list[Sequence[Result]]:
        """Return what came of each batch, in their order; they are begun in that order, too.

        May be called from several threads. Where a batch raises, those not yet begun are left out.

        Raises:
            ExecutorUnavailable: there is no worker, or a batch has cost one too many.
            Cancelled: one was.
            DeadlinePassed: that of one has, and it waits for a worker, or the worker does not come to an end.
        """
        ...

    def close(self) -> None:
        """End the workers. What is not done fails."""
        ...
