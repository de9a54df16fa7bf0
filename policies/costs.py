"""Predicted cost: what each arm would take on this device, from the probe just run and from how earlier predictions
fared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from threading import Lock
from typing import Literal

from policies.decision import Arm

Kind = Literal["grid", "text"]

# Of a prompt that is asked alone and its answer, which is written token by token: one more view in the same pass, and a
# training sequence (forward, backward, and the adapter beside the weights; a short text's steps cost more than their
# tokens). Measured with the embedded model on families that it was not trained on (docs/experiments.md).
_ONE_MORE_VIEW = 0.24
_SEQUENCE: dict[Kind, float] = {"grid": 0.29, "text": 0.55}
_MEMORY = 0.8  # share of the old correction that each new measurement leaves


@dataclass(frozen=True, slots=True)
class Work:
    """What an arm's work on a task hangs on."""

    prompt_s: float  # seconds of one prompt that is asked alone, its answer included
    n_queries: int = 1
    kind: Kind = "grid"


class CostModel:
    """Seconds per arm = work in prompts * seconds of one prompt, corrected by the running ratio of measured to
    predicted, for grids and texts apart.

    Work: for each query `icl` is one prompt, `icl_vote` and a `ttt` arm are one and a part for each more view, and
    training is a part of one for each sequence. The probe has just measured what a prompt takes here, answer included;
    one that asked views or other tasks besides says too little, which the correction makes up for. Safe between
    threads.

    Args:
        training_sequences: that `ttt` trains on.
        text_sequences: the same for texts; None: as for grids.
        added_s: seconds that a query takes by arms that are not built in, as far as is known before they are measured;
            a prompt here says nothing of them.
    """

    def __init__(
        self,
        *,
        n_views: int,
        training_sequences: int,
        text_sequences: int | None = None,
        added_s: Mapping[str, float] | None = None,
    ) -> None:
        text_sequences = training_sequences if text_sequences is None else text_sequences
        self._training: dict[Kind, float] = {
            "grid": training_sequences * _SEQUENCE["grid"],
            "text": text_sequences * _SEQUENCE["text"],
        }
        self._added_s = dict(added_s or {})
        self._voting = 1.0 + _ONE_MORE_VIEW * (n_views - 1)
        self._correction: dict[tuple[str, Kind], float] = {}
        self._lock = Lock()

    def unlearned(self) -> CostModel:
        """Return a model of the same work that nothing has been measured for."""
        fresh = copy(self)
        fresh._correction, fresh._lock = {}, Lock()
        return fresh

    def predict(self, arms: Sequence[str], *, work: Work, cached: bool) -> dict[str, float]:
        """Return seconds for each known arm of `arms`.

        Args:
            cached: the adapter of the `ttt` arm is at hand: nothing to train.
        """

        def seconds(arm: str) -> float:
            if cached and arm == Arm.TTT:
                return self._voting * work.n_queries * work.prompt_s
            return self._uncorrected(arm, work) * self._correction.get((arm, work.kind), 1.0)

        return {arm: seconds(arm) for arm in arms if arm in tuple(Arm) or arm in self._added_s}

    def measured(self, arm: str, seconds: float, *, work: Work, cached: bool) -> None:
        """Learn from what `arm` took."""
        expected_s = self._uncorrected(arm, work)
        if cached or expected_s <= 0:
            return
        with self._lock:
            old = self._correction.get((arm, work.kind), 1.0)  # the first may be of a machine that was warming up
            self._correction[arm, work.kind] = _MEMORY * old + (1 - _MEMORY) * seconds / expected_s

    def _uncorrected(self, arm: str, work: Work) -> float:
        """Return the seconds of an arm by the work alone; 0 where it is not known."""
        if arm not in tuple(Arm):
            return self._added_s.get(arm, 0.0) * work.n_queries
        training = {str(Arm.TTT_SHORT): 0.25, str(Arm.TTT): 1.0}.get(arm, 0.0) * self._training[work.kind]
        per_query = {str(Arm.ZERO_SHOT): 0.5, str(Arm.ICL): 1.0}.get(arm, self._voting)
        return (training + per_query * work.n_queries) * work.prompt_s
