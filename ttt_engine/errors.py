"""The errors of training at test time and of keeping adapters."""

from __future__ import annotations

from icl_engine.errors import FewShotError


class TrainingFailed(FewShotError):
    """Training gave no usable adapter: the loss exploded, memory ran out, or time did.

    Args:
        reason: One short clause for `degraded`, such as "loss became nan at step 3".
        gave_up: Whether it could have gone on, and whoever led it had no more time or did not want it any more.
    """

    def __init__(self, reason: str, *, gave_up: bool = False, task_id: str | None = None) -> None:
        super().__init__(f"training stopped: {reason}. The answer in context is used instead.", task_id=task_id)
        self.reason = reason
        self.gave_up = gave_up


class Cancelled(FewShotError):
    """Whoever asked for it does not want it any more."""

    def __init__(self, *, task_id: str | None = None) -> None:
        super().__init__("cancelled by whoever asked for it. Ask again if it is wanted after all.", task_id=task_id)


class DeadlinePassed(FewShotError):
    """The time that was given ran out while others were at work.

    Args:
        during: What it was spent on, such as "waiting for the model".
    """

    def __init__(self, during: str, *, task_id: str | None = None) -> None:
        super().__init__(
            f"deadline reached while {during}. Give more time, or ask when less is going on.", task_id=task_id
        )
        self.during = during


class AdapterRefused(FewShotError):
    """An adapter does not fit the model or is damaged: names, shapes, types, finiteness or checksum differ."""


class AdapterRejected(AdapterRefused):
    """What a store holds under a key is not the adapter that was signed for it; it counts as a miss.

    Args:
        reason: One word of `ttt_engine.stores.envelope.REASONS`.
    """

    def __init__(self, reason: str, detail: str, *, task_id: str | None = None) -> None:
        super().__init__(f"a stored adapter was rejected ({reason}): {detail}. It is trained anew.", task_id=task_id)
        self.reason = reason


class StoreUnavailable(FewShotError):
    """The adapter store cannot be read or written; costs a training run, never an answer.

    Args:
        code: One word: `timeout`, `connection`, `full`, `LOADING`, `READONLY`, `MISCONF`, `OOM` or `error`.
    """

    def __init__(self, message: str, *, code: str = "error", task_id: str | None = None) -> None:
        super().__init__(message, task_id=task_id)
        self.code = code


class StoreMisconfigured(StoreUnavailable):
    """The adapter store will never work as it is set up: wrong password, missing rights, a secret others can read.

    Args:
        remedy: What would do.
    """

    def __init__(self, message: str, *, remedy: str, code: str = "error", task_id: str | None = None) -> None:
        super().__init__(f"{message.rstrip('.')}. {remedy}", code=code, task_id=task_id)
        self.remedy = remedy


class ExecutorUnavailable(FewShotError):
    """The workers that should solve tasks cannot be had, or do not survive it.

    Args:
        remedy: What would do.
    """

    def __init__(self, message: str, *, remedy: str, task_id: str | None = None) -> None:
        super().__init__(f"{message.rstrip('.')}. {remedy}", task_id=task_id)
        self.message = message
        self.remedy = remedy
