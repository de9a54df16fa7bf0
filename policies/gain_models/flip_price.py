"""The price at which another arm wins: where the straight lines quality - price * cost of two arms cross."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Flip:
    """Another arm, and the price at which it is worth as much as the one that wins now."""

    arm: str
    price: float  # quality per unit of cost


@dataclass(frozen=True, slots=True)
class Flips:
    """Who wins at a price, and where that ends on both sides; None: nowhere."""

    arm: str
    below: Flip | None  # were time cheaper: the next arm to win, dearer than this one
    above: Flip | None  # were time dearer: the next arm to win, cheaper than this one


def flips(arms: Sequence[str], quality: Sequence[float], costs: Sequence[float], price: float) -> Flips:
    """Return the arm with the largest quality - price * cost (of equal ones the cheapest), and the nearest flips.

    Args:
        quality: expected quality of each arm, or its gain: what all have in common does not matter.
        costs: in the unit that `price` is for; what is spent already counts for no arm.
        price: >= 0.

    Example:
        >>> flips(("icl", "ttt"), (0.5, 1.0), (0.0, 1.0), price=0.1).above
        Flip(arm='icl', price=0.5)
    """
    lines = list(zip(arms, quality, costs, strict=True))
    arm, q, cost = max(lines, key=lambda line: (line[1] - price * line[2], -line[2]))
    crossings = [(c, Flip(other, (q - p) / (cost - c))) for other, p, c in lines if c != cost]
    cheaper = [flip for c, flip in crossings if c < cost]  # each at or above `price`, as `arm` wins there
    dearer = [flip for c, flip in crossings if c > cost and flip.price >= 0.0]
    return Flips(
        arm,
        below=max(dearer, key=lambda flip: flip.price, default=None),
        above=min(cheaper, key=lambda flip: flip.price, default=None),
    )
