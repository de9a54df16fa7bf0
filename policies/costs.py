"""Predicted cost: what each arm would take on this device, from the probe just run and from how earlier predictions
fared.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

from policies.decision import REMOTE, Arm

_BACKWARD = 3.0  # a training token costs about three read ones: forward, backward, and the adapter beside the weights
_MEMORY = 0.8  # share of the old correction that each new measurement leaves


class CostModel:
    """Seconds per arm = work in prompts * seconds of one prompt, corrected by the running ratio of measured to
    predicted.

    Work: `icl` is one prompt, `icl_vote` one a view, a `ttt` arm its training sequences and then one a view. The probe
    has just measured what a prompt takes here, answer included. Safe between threads.

    Args:
        remote_s: seconds that a model on a server takes, until it has been measured; a prompt here says nothing of it.
    """

    def __init__(self, *, n_views: int, training_sequences: int, remote_s: float | None = None) -> None:
        self._prompts = {
            Arm.ZERO_SHOT: 0.5,
            Arm.ICL: 1.0,
            Arm.ICL_VOTE: float(n_views),
            Arm.TTT_SHORT: training_sequences / 4 * _BACKWARD + n_views,
            Arm.TTT: training_sequences * _BACKWARD + n_views,
        }
        self._remote_s = remote_s
        self._n_views = n_views
        self._correction: dict[str, float] = {}
        self._lock = Lock()

    def predict(self, arms: Sequence[str], *, prompt_s: float, cached: bool) -> dict[str, float]:
        """Return seconds for each known arm of `arms`.

        Args:
            prompt_s: what one prompt of this task took in the probe.
            cached: the adapter of the `ttt` arm is at hand: nothing to train.
        """
        known = [arm for arm in arms if arm in self._prompts or (arm == REMOTE and self._remote_s is not None)]
        return {arm: self._predict(arm, prompt_s, cached and arm == Arm.TTT) for arm in known}

    def measured(self, arm: str, seconds: float, *, prompt_s: float, cached: bool) -> None:
        """Learn from what `arm` took."""
        expected_s = self._uncorrected(arm, prompt_s)
        if cached or expected_s <= 0:
            return
        with self._lock:
            ratio = seconds / expected_s
            old = self._correction.get(arm)
            self._correction[arm] = ratio if old is None else _MEMORY * old + (1 - _MEMORY) * ratio

    def _predict(self, arm: str, prompt_s: float, trained: bool) -> float:
        if trained:
            return self._n_views * prompt_s
        return self._uncorrected(arm, prompt_s) * self._correction.get(arm, 1.0)

    def _uncorrected(self, arm: str, prompt_s: float) -> float:
        """Return the seconds of an arm by the work alone; 0 where it is not known."""
        if arm == REMOTE:
            return self._remote_s or 0.0
        return self._prompts[Arm(arm)] * prompt_s if arm in self._prompts else 0.0
