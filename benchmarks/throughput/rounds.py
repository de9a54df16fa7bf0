"""Measuring in rounds: everything in turn, ratios within a round, their median with a bootstrap interval.

On a shared machine a time says little and a ratio of two times far apart hardly more. So what is compared is called in
turn, in another order each round, and a round that another process disturbed does not count. Reads /proc.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch

from benchmarks.throughput.floor import synchronize

LEAST_ROUNDS = 6  # of which a percentile interval of the median is told: of fewer it is narrower than it says
MOST_OTHER_CORES = 0.3  # that another process may take up in a round that counts
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Noise:
    """What else the machine did meanwhile."""

    other_cores: float  # of the busiest other process, its ended children included
    stolen_cores: float  # that the host gave to other machines
    load: float  # average over the last minute

    @property
    def quiet(self) -> bool:
        """Say whether what was measured meanwhile counts."""
        return self.other_cores <= MOST_OTHER_CORES


@dataclass(frozen=True, slots=True)
class Timed(Generic[T]):
    """One call: its round, what it took and gave."""

    round: int
    name: str
    seconds: float
    noise: Noise
    given: T


Place = tuple[str, str, str]  # section, subject and place of what is measured


@dataclass(frozen=True, slots=True)
class Schedule:
    """How many rounds are wanted, which are there already, and when to stop."""

    rounds: int
    allow_noise: bool = False
    until: float = math.inf  # on the clock of time.monotonic; no round begins after it
    done: Mapping[Place, Mapping[int, Mapping[str, Noise | None]]] = field(default_factory=dict)  # by round and name

    def finished(self, place: Place, names: Collection[str]) -> list[bool]:
        """Return, of the rounds from the first on that have all names, whether each of them counts."""
        found: list[bool] = []
        of_place = self.done.get(place, {})
        while names and set(names) <= of_place.get(len(found), {}).keys():
            noises = [of_place[len(found)][name] for name in names]
            found.append(self.allow_noise or all(noise is None or noise.quiet for noise in noises))
        return found

    def goes_on(self, finished: Sequence[bool]) -> bool:
        """Say whether another round is to be begun: until `rounds` of them count, or twice as many went by."""
        enough = sum(finished) >= self.rounds or len(finished) >= 2 * self.rounds
        return not enough and time.monotonic() < self.until

    def is_left(self, place: Place, names: Collection[str]) -> bool:
        """Say whether there is anything to measure."""
        return self.goes_on(self.finished(place, names))


def interleaved(
    calls: Mapping[str, Callable[[], T]], schedule: Schedule, place: Place, *, device: torch.device
) -> Iterator[Timed[T]]:
    """Call all in turn, each round beginning with the next one, for the rounds that the schedule lacks."""
    return interleaved_by_round(list(calls), lambda _: calls, schedule, place, device=device)


def interleaved_by_round(
    names: Sequence[str],
    calls_of: Callable[[Sequence[bool]], Mapping[str, Callable[[], T]]],
    schedule: Schedule,
    place: Place,
    *,
    device: torch.device,
) -> Iterator[Timed[T]]:
    """Call what has these names in turn, where a round has calls of its own.

    Args:
        calls_of: returns the calls of a round by name, given of each round before it whether it counts.
    """
    names, finished = list(names), schedule.finished(place, names)
    while schedule.goes_on(finished):
        first = len(finished) % len(names)
        counts, calls = True, calls_of(tuple(finished))
        for name in names[first:] + names[:first]:
            measured = timed(calls[name], device=device)
            counts &= schedule.allow_noise or measured[1].quiet
            yield Timed(len(finished), name, measured[0], measured[1], measured[2])
        finished.append(counts)


def timed(call: Callable[[], T], *, device: torch.device) -> tuple[float, Noise, T]:
    """Return the seconds a call takes, what else went on, and what it gives."""
    before, stolen = cpu_seconds(), _stolen_s()
    synchronize(device)
    began = time.perf_counter()
    given = call()
    synchronize(device)
    seconds = time.perf_counter() - began
    busiest = max((used - before.get(pid, 0.0) for pid, used in cpu_seconds().items()), default=0.0)
    noise = Noise(max(busiest, 0.0) / seconds, (_stolen_s() - stolen) / seconds, os.getloadavg()[0])
    return seconds, noise, given


def quiet_rounds(noises: Mapping[int, Sequence[Noise]], *, allow_noise: bool = False) -> list[int]:
    """Return the rounds that count, of all measurements by their round."""
    return [i for i, each in noises.items() if allow_noise or all(noise.quiet for noise in each)]


def bootstrap_interval(values: Sequence[float], *, seed: int = 0, resamples: int = 10_000) -> tuple[float, float]:
    """Return the 95 % percentile interval of the median.

    Source: Efron and Tibshirani 1993, ch. 13 (the percentile interval).
    """
    rng = np.random.default_rng(seed)
    drawn = rng.choice(np.asarray(values, dtype=float), size=(resamples, len(values)))
    low, high = np.percentile(np.median(drawn, axis=1), (2.5, 97.5))
    return float(low), float(high)


def ratio_said(slow: Mapping[int, float], quick: Mapping[int, float]) -> str:
    """Say how many times quicker the second is than the first: the median over the rounds both have, and its interval;
    of few rounds the lowest and the highest, of one the ratio alone.

    Args:
        slow: seconds by round.
        quick: seconds by round.
    """
    ratios = [slow[i] / quick[i] for i in slow if i in quick]
    if not ratios:
        return ""
    median = f"{statistics.median(ratios):.2f}"
    if len(ratios) == 1:
        return median
    if len(ratios) < LEAST_ROUNDS:
        return f"{median} ({min(ratios):.2f} to {max(ratios):.2f} of {len(ratios)} rounds)"
    low, high = bootstrap_interval(ratios)
    return f"{median} ({low:.2f}-{high:.2f})"


def cpu_seconds() -> dict[int, float]:
    """Return what every process but this one and its children has used, children that have ended included."""
    stats = {int(path.name): _stat(path) for path in _PROC.iterdir() if path.name.isdigit()}
    known = {pid: stat for pid, stat in stats.items() if stat is not None}
    own = {os.getpid()}
    while more := {pid for pid, (parent, _) in known.items() if parent in own} - own:
        own |= more
    return {pid: used for pid, (_, used) in known.items() if pid not in own}


def _stat(process: Path) -> tuple[int, float] | None:
    """Return a process's parent and the seconds it has used; None where it has ended."""
    try:
        fields = (process / "stat").read_text().rpartition(")")[2].split()  # a name may hold blanks and brackets
    except OSError:
        return None
    return int(fields[1]), sum(map(int, fields[11:15])) / _TICKS_PER_S  # utime, stime, cutime, cstime


def _stolen_s() -> float:
    fields = (_PROC / "stat").read_text().split("\n", 1)[0].split()
    return int(fields[8]) / _TICKS_PER_S if len(fields) > 8 else 0.0
