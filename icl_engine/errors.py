"""The errors of the lowest package, and the root of every error in the project. Of tasks it knows their id."""

from __future__ import annotations

import traceback
from typing import Any, TypeVar

Kept = TypeVar("Kept", bound=Exception)


class FewShotError(Exception):
    """Root of all errors that the project raises on purpose.

    Args:
        message: What happened, what was got, and what would do.
        task_id: The task it happened to, where there is one.
    """

    def __init__(self, message: str, *, task_id: str | None = None) -> None:
        super().__init__(message)
        self.task_id = task_id

    def __reduce__(self) -> tuple[Any, ...]:
        # The default calls the class with `args` only, which loses every keyword: an error could not leave its process.
        return _restored, (type(self), self.args, dict(self.__dict__))


class TaskRefused(FewShotError):
    """A task, or a part of one, that cannot be used as it is.

    Args:
        message: What was got.
        field: Where it was found, such as `demonstrations[2].output[1]`.
        remedy: What would do instead.
    """

    def __init__(self, message: str, *, field: str, remedy: str, task_id: str | None = None) -> None:
        super().__init__(f"{field}: {message.rstrip('.')}. {remedy}", task_id=task_id)
        self.message = message
        self.field = field
        self.remedy = remedy


class TooFewDemonstrations(TaskRefused):
    """A task with fewer demonstrations than the step at hand needs."""


class TaskTooLarge(TaskRefused):
    """A task beyond the limits that are set; found by its size, before its content is looked at."""


class UnreadableTaskFile(TaskRefused):
    """A file or folder from which no task can be read."""


class ContextOverflow(TaskRefused):
    """A prompt longer than the context of the model."""


class OutOfMemory(FewShotError):
    """The device's memory does not hold one pass over one prompt."""


class ModelUnavailable(FewShotError):
    """A language model that cannot be loaded.

    Args:
        remedy: What would make it available.
    """

    def __init__(self, message: str, *, remedy: str, task_id: str | None = None) -> None:
        super().__init__(f"{message.rstrip('.')}. {remedy}", task_id=task_id)
        self.message = message
        self.remedy = remedy


class RemoteFailed(FewShotError):
    """A language model on a server did not answer; `solve` answers with the one here instead.

    Args:
        reason: One clause, such as "it refused with status 429".
    """

    def __init__(self, reason: str, *, task_id: str | None = None) -> None:
        super().__init__(f"the remote model did not answer: {reason}.", task_id=task_id)
        self.reason = reason


def _restored(kind: type[FewShotError], args: tuple[Any, ...], state: dict[str, Any]) -> FewShotError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


def released(error: Kept) -> Kept:
    """Return a caught error, to be kept, that no longer holds what the failed calls held: a pass's memory, above all.

    It still says which calls they were.
    """
    each: BaseException | None = error
    while each is not None:
        traceback.clear_frames(each.__traceback__)
        each = each.__cause__ or each.__context__
    catching = error.__traceback__  # its first frame is that of the caller, which is not done
    return error.with_traceback(catching.tb_next if catching else None)
