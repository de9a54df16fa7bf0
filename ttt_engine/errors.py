"""The errors of training at test time and of keeping adapters."""

from __future__ import annotations

from icl_engine.errors import FewShotError


class TrainingFailed(FewShotError):
    """Training gave no usable adapter: the loss exploded, memory ran out, or time did.

    Args:
        reason: One short clause for `degraded`, such as "loss became nan at step 3".
    """

    def __init__(self, reason: str, *, task_id: str | None = None) -> None:
        super().__init__(f"training stopped: {reason}. The answer in context is used instead.", task_id=task_id)
        self.reason = reason


class AdapterRefused(FewShotError):
    """An adapter does not fit the model or is damaged: names, shapes, types, finiteness or checksum differ."""


class StoreUnavailable(FewShotError):
    """The adapter store cannot be read or written; costs a training run, never an answer."""
