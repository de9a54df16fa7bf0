"""How much the sources of feedback may count for: a share each, and nothing where one runs against all others.

What a source says of the answers is a label to learn from and the evidence a promotion rests on, so that whoever says
most could teach the router to be wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from policies.off_policy import fit_ridge

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Mask = npt.NDArray[np.bool_]

_ENOUGH = 40  # rows of a source, to say that it contradicts the others
_ERRORS = 2.5  # standard errors below zero at which it does


def within_share(sources: Sequence[str], share: float, *, trusted: Collection[str] = ()) -> Mask:
    """Return which rows count, (n,): of each source as many as `share` of all rows, or its equal part where there are
    few sources; the earliest count.

    Args:
        trusted: sources that are not capped, such as the file that holds the solutions.
    """
    counts = Counter(sources)
    most = int(max(share, 1.0 / max(len(counts), 1)) * len(sources))
    seen: Counter[str] = Counter()
    kept = np.zeros(len(sources), dtype=bool)
    for i, source in enumerate(sources):
        seen[source] += 1
        kept[i] = source in trusted or seen[source] <= most
    return kept


def contradicting(sources: Sequence[str], features: Floats, quality: Floats) -> tuple[str, ...]:
    """Return the sources whose reports go against what all others' reports predict for the same kind of task.

    Args:
        features: (n, n_features).
        quality: (n,), of one arm, as each source reports it; NaN: not known.
    """
    named = np.array(sources)
    known = ~np.isnan(quality)
    found = []
    for source in sorted(set(sources)):
        its, others = (named == source) & known, (named != source) & known
        if its.sum() < _ENOUGH or others.sum() < _ENOUGH:
            continue
        expected = fit_ridge(features[others], quality[others], np.ones(int(others.sum())))(features[its])
        together = (expected - expected.mean()) * (quality[its] - quality[its].mean())
        error = float(together.std()) / np.sqrt(len(together))
        if error > 0 and float(together.mean()) / error < -_ERRORS:
            found.append(source)
    return tuple(found)
