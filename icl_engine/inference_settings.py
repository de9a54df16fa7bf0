"""How a task is answered by a vote: under which views, how each is decoded, and how the answers are chosen from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Precision = Literal["full", "bf16"]


@dataclass(frozen=True, slots=True)
class InferenceSettings:
    """The way from a task to its answer. The defaults are for the embedded model.

    Raises:
        ValueError: a number is out of its range.
    """

    # "symmetries": all demonstrations, turned, recoloured and reordered; "paper": one left out, see `paper_views`
    views: Literal["symmetries", "paper"] = "symmetries"
    n_views: int = 8  # at most; the paper's views are 3n + 5 of n demonstrations, small models vote over up to 510
    # "hierarchical": inside each transform, then over all; "flat": plain majority; "scored": likelihood over all views,
    # which reads every candidate under every view
    vote: Literal["hierarchical", "flat", "scored"] = "hierarchical"
    # "greedy": one answer a view; "search": every answer above `cut_off` too, each with a vote of its own
    decode: Literal["greedy", "search"] = "greedy"
    cut_off: float = 0.09  # least probability of an answer that search finds
    n_scored: int = 16  # candidates that are scored at most, those with most votes
    # write one view's answer and check it in the others, in place of writing all: the same answers. Off, because on a
    # CPU the embedded model writes one row almost as slowly as eight, and views that disagree are then written after it
    verify: bool = False
    # of the products in which views are read: the weights' own, or bfloat16 where the model is a Llama on a CPU
    views_precision: Precision = "full"

    def __post_init__(self) -> None:
        if self.n_views < 0:
            raise ValueError(f"n_views is {self.n_views}; give 0 or more")
        if not 0 < self.cut_off <= 1:
            raise ValueError(f"cut_off is {self.cut_off}; give a probability above 0")
        if self.n_scored < 1:
            raise ValueError(f"n_scored is {self.n_scored}; give 1 or more")
