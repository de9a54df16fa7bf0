"""The learning loop in the background: turns of a learner, jobs put off, and a look at whom other processes promote.

What a turn does is the learner's (`router.learning`); here is when it does it, and what becomes of a fault.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from router.acting_policy import ActingPolicy
from router.learning import Event, Learner

_LOG = logging.getLogger(__name__)
_TRIES = 3  # of a job: a lost audit still counts as one that could have been made


class LearningLoop:
    """Runs a learner beside whoever solves: `start` has it learn, `follow` only look who was promoted."""

    def __init__(self, learner: Learner) -> None:
        self.learner = learner
        self._fault: str | None = None
        self._jobs: deque[tuple[Callable[[], None], int]] = deque()  # with the tries that are left
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._following: threading.Thread | None = None

    @property
    def policy(self) -> ActingPolicy:
        """Who decides."""
        return self.learner.policy

    @property
    def fault(self) -> str | None:
        """What went wrong in the last turn, or keeps the champion from deciding; None: all went well."""
        return self._fault or self.learner.fault

    def start(self) -> None:
        """Run a turn every `interval_s` in a thread of its own until `stop`; starting twice is harmless."""
        if self._thread is None:
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, name="learning", daemon=True)
            self._thread.start()

    def follow(self) -> None:
        """Look every `follow_s`, in a thread of its own until `stop`, whom the ledger names, and let those decide."""
        if self._following is None:
            self._stop.clear()
            self._following = threading.Thread(target=self._follow, name="following", daemon=True)
            self._following.start()

    def stop(self) -> None:
        """Let the turn that runs end, and no other begin; then do the jobs that wait."""
        self._stop.set()
        for thread in (self._thread, self._following):
            if thread is not None:
                thread.join()
        self._thread = self._following = None
        self._do_jobs()

    @property
    def alive(self) -> bool:
        """Whether the loop runs in the background."""
        return self._thread is not None and self._thread.is_alive()

    def later(self, job: Callable[[], None]) -> None:
        """Run a job, such as an audit, at the next turn; one that fails is tried again at the next two."""
        self._jobs.append((job, _TRIES))

    def turn(self) -> tuple[Event, ...]:
        """Do one step, whatever happens: a fault is kept in `fault` and logged, and the next turn tries again."""
        done = self._do_jobs()
        try:
            events = self.learner.step()
        except Exception as error:  # nobody waits for this thread: what it does not say here is lost
            self._failed(error, "the learning loop could not finish a turn")
            return ()
        if done:
            self._fault = None
        return events

    def _run(self) -> None:
        while not self._stop.is_set():
            self.turn()
            self._stop.wait(self.learner.settings.interval_s)

    def _follow(self) -> None:
        while not self._stop.wait(self.learner.settings.follow_s):
            try:
                self.learner.look()
            except Exception as error:  # a ledger that is away is told of by whoever records; the next look may succeed
                _LOG.debug("cannot look who was promoted: %s", error)

    def _do_jobs(self) -> bool:
        """Do what waits, one after the other whatever becomes of each; say whether all of it was done."""
        failed = []
        while self._jobs:
            job, tries = self._jobs.popleft()
            try:
                job()
            except Exception as error:
                self._failed(error, "a job of the learning loop failed")
                failed.append((job, tries - 1))
        self._jobs.extend((job, tries) for job, tries in failed if tries)
        return not failed

    def _failed(self, error: Exception, said: str) -> None:
        self._fault = f"{type(error).__name__}: {error}"
        _LOG.error(said, exc_info=error)
