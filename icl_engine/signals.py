"""Signs of how sure a model is of its answer and of how it takes up a task: plain numbers from what a pass has said.

Asks no model anything, and knows nothing of policies.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean
from typing import TYPE_CHECKING

from icl_engine.language_model import Generation
from icl_engine.task import Value

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

N_HIDDEN = 8  # numbers that a hidden state is projected to


@dataclass(frozen=True, slots=True)
class Sureness:
    """How sure a model was while it wrote; over all tokens of all answers, the ends included."""

    entropy: float  # nats per token
    margin: float  # nats between a token and its runner-up, the mean
    least_margin: float  # the same, at the token where the choice was closest


def sureness_of(generations: Sequence[Generation]) -> Sureness | None:
    """Return how sure the model was of these answers; None where it does not tell."""
    entropies = [each for said in generations for each in said.token_entropies]
    margins = [each for said in generations for each in said.token_margins]
    return Sureness(fmean(entropies), fmean(margins), min(margins)) if entropies and margins else None


def agreement(value: Value | None, others: Sequence[Value | None]) -> float | None:
    """Return the share of `others` that are the same value; no value agrees with nothing. None without others."""
    return sum(other is not None and other == value for other in others) / len(others) if others else None


def projected(hidden: Sequence[float], n: int = N_HIDDEN) -> tuple[float, ...]:
    """Project a hidden state, scaled to length one, to n numbers of about unit size; the same on every machine.

    Source: Achlioptas 2003, Database-friendly random projections, theorem 1.1 (random signs).
    """
    import numpy as np

    if not hidden:
        return ()
    state = np.asarray(hidden, dtype=np.float64)
    length = float(np.linalg.norm(state))
    if not (math.isfinite(length) and length > 0):
        return (0.0,) * n
    return tuple((_signs(len(state), n) @ (state / length)).tolist())


@functools.lru_cache(maxsize=8)
def _signs(n_from: int, n_to: int) -> npt.NDArray[np.float64]:
    """Return a fixed matrix of random signs, (n_to, n_from)."""
    import numpy as np

    rng = Random(f"icl_engine.signals/1:{n_from}:{n_to}")  # a str seeds through SHA-512, whatever the hash seed
    bits = np.unpackbits(np.frombuffer(rng.randbytes(-(-n_from * n_to // 8)), dtype=np.uint8))[: n_from * n_to]
    signs: npt.NDArray[np.float64] = 2.0 * bits.astype(np.float64) - 1.0
    return signs.reshape(n_to, n_from)
