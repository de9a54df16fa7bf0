"""A sketch of a task: 64 numbers, alike where tasks are alike. Our own, cheap, and without a model.

A task is turned into a set of features that say what becomes of an input (how its shape changes, which colours come and
go by their rank of frequency, what stands where a cell of some neighbourhood stood; of text, runs of three characters
of input and output), each hashed; the sketch is the MinHash of the set. The share of places at which two sketches agree
estimates the share of features that two tasks have in common. It knows nothing of queries.
Source: Broder 1997, On the resemblance and containment of documents (MinHash).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from random import Random

from icl_engine.task import Grid, Task

PLACES = 64
KEPT_BITS = 32  # of each number
_PRIME = 2**61 - 1
_rng = Random("ttt_engine.sketch/1")
_HASHES = tuple((_rng.randrange(1, _PRIME), _rng.randrange(_PRIME)) for _ in range(PLACES))


def sketch_of(task: Task) -> tuple[int, ...]:
    """Return the sketch of a task's demonstrations and instruction: the same on every machine."""
    numbers = [_number(feature) for feature in sorted(set(_features(task)))]
    return tuple(min((a * number + b) % _PRIME for number in numbers) >> (61 - KEPT_BITS) for a, b in _HASHES)


def likeness(one: Sequence[int], other: Sequence[int]) -> float:
    """Return the share of places at which two sketches agree, 0 to 1; 0 for sketches of different makes."""
    if len(one) != len(other) or not one:
        return 0.0
    return sum(a == b for a, b in zip(one, other, strict=True)) / len(one)


def nearest(
    sketch: Sequence[int], among: Mapping[str, Sequence[int]], *, n: int = 1, least: float = 0.0
) -> list[tuple[float, str]]:
    """Return the `n` keys whose sketches are most like `sketch`, with their likeness, the best first."""
    ranked = sorted(
        ((likeness(sketch, other), key) for key, other in among.items()), key=lambda each: (-each[0], each[1])
    )
    return [each for each in ranked[:n] if each[0] >= least]


def _features(task: Task) -> Iterator[str]:
    yield f"kind {task.kind}"
    if task.instruction:
        yield from (f"instruction {run}" for run in _runs(task.instruction))
    for demonstration in task.demonstrations:
        given, wanted = demonstration.input, demonstration.output
        if isinstance(given, str) or isinstance(wanted, str):
            yield from (f"in {run}" for run in _runs(str(given)))
            yield from (f"out {run}" for run in _runs(str(wanted)))
        else:
            yield from _grid_features(given, wanted)


def _grid_features(given: Grid, wanted: Grid) -> Iterator[str]:
    rows, columns, out_rows, out_columns = len(given), len(given[0]), len(wanted), len(wanted[0])
    yield f"shape {_relation(rows, out_rows)} {_relation(columns, out_columns)}"
    yield f"thin {rows == 1} {columns == 1}"
    before, after = (Counter(cell for row in grid for cell in row) for grid in (given, wanted))
    yield f"colours {len(before)} {len(after)} new {len(after.keys() - before.keys())}"
    yield f"counts kept {before == after} changed {_relation(before[0], after[0])}"
    ranks = _ranks(before, after)
    if (rows, columns) != (out_rows, out_columns):
        return
    for y in range(rows):
        for x in range(columns):
            around = [
                ranks[given[y + dy][x + dx]] if 0 <= y + dy < rows and 0 <= x + dx < columns else -1
                for dy, dx in ((0, -1), (0, 0), (0, 1), (-1, 0), (1, 0))
            ]
            yield f"cell {around} {ranks[wanted[y][x]]}"


def _ranks(before: Counter[int], after: Counter[int]) -> dict[int, int]:
    """Number the colours from the commonest down, so that the same task in other colours has the same features."""
    colours = sorted((before | after).keys() - {0}, key=lambda colour: (-before[colour], -after[colour], colour))
    return {0: 0} | {colour: 1 + min(i, 4) for i, colour in enumerate(colours)}


def _relation(one: int, other: int) -> str:
    return "same" if one == other else "times" if one and other % one == 0 else "less" if other < one else "more"


def _runs(text: str) -> Iterator[str]:
    padded = f"\x02{text}\x03"
    return (padded[i : i + 3] for i in range(len(padded) - 2))


def _number(feature: str) -> int:
    digest = hashlib.blake2b(feature.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % _PRIME
