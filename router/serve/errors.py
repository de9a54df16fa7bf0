"""What the service refuses by itself, beside what the library does."""

from __future__ import annotations

from icl_engine.errors import FewShotError


class Overloaded(FewShotError):
    """More waits already than may; the same request may be taken later.

    Args:
        retry_after_s: when.
    """

    def __init__(self, waiting: str, retry_after_s: float) -> None:
        super().__init__(f"{waiting} already. Ask again in {retry_after_s:.0f} s, or a server with more room.")
        self.retry_after_s = retry_after_s


class Stopping(FewShotError):
    """The server is about to stop; another one, or this one later, will take it."""

    retry_after_s = 5.0

    def __init__(self) -> None:
        super().__init__("this server is stopping. Ask again, or ask another one.")


class JobNotKept(FewShotError):
    """A job that was to be kept cannot be written to disk."""

    retry_after_s = 5.0

    def __init__(self, problem: str) -> None:
        super().__init__(f"the job cannot be kept: {problem}. Ask for an answer at once, or again later.")


class CancellationNotKept(FewShotError):
    """That a job was cancelled cannot be written to disk."""

    retry_after_s = 5.0

    def __init__(self, problem: str) -> None:
        super().__init__(f"it is cancelled, but would be done after a crash: {problem}. Delete it again later.")


class JobGivenUp(FewShotError):
    """A promised job that one server after the other has ended with; it answers for its idempotency key.

    Args:
        n_tries: that were broken off, after the first.
    """

    def __init__(self, n_tries: int) -> None:
        super().__init__(
            f"given up: the server ended while it was at work on this, and {n_tries} times more when it was taken up "
            "again. Send the tasks one by one, under keys of their own; the server's log says what ended it, if it can."
        )


class RateExceeded(FewShotError):
    """A tenant asks more often than it may."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"too many requests. Ask again in {retry_after_s:.3g} s.")
        self.retry_after_s = retry_after_s


class ComputeSpent(FewShotError):
    """A tenant has used more compute than it has got by now.

    Args:
        per_h: seconds of compute that it gets in an hour.
        retry_after_s: until it has got what it owes: several hours where its last tasks took more than one gives.
    """

    def __init__(self, per_h: float, retry_after_s: float) -> None:
        super().__init__(
            f"the compute of this tenant is used up: it gets {per_h:g} s an hour. Ask again in {retry_after_s:.0f} s."
        )
        self.retry_after_s = retry_after_s


class KeyRequired(FewShotError):
    """No key came with the request, or none that is known."""

    def __init__(self) -> None:
        super().__init__("no key that is known. Send the header 'Authorization: Bearer KEY'.")


class UnknownJob(FewShotError):
    """No such job of this tenant: it never was, it is too long ago, or another server has it."""

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"no job {job_id[:40]!r} here. Ask the server that took it, before its result is dropped; where that is "
            "gone for good, send the tasks again, under the same Idempotency-Key."
        )


class KeyReused(FewShotError):
    """An idempotency key came again with another body."""

    field = "Idempotency-Key"

    def __init__(self) -> None:
        super().__init__("this idempotency key was used for another request. Give every request a key of its own.")


class BodyRefused(FewShotError):
    """A body that cannot be read as what the route takes.

    Args:
        field: where in it.
        remedy: what would do.
    """

    def __init__(self, message: str, *, field: str, remedy: str, status: int = 422) -> None:
        super().__init__(f"{field}: {message.rstrip('.')}. {remedy}")
        self.message = message
        self.field = field
        self.remedy = remedy
        self.status = status


class QueryRefused(FewShotError):
    """A parameter in an address that the route does not take, or not with this value.

    Args:
        field: its name.
        remedy: what would do.
    """

    status = 422

    def __init__(self, message: str, *, field: str, remedy: str) -> None:
        super().__init__(f"{field}: {message.rstrip('.')}. {remedy}")
        self.field = field
        self.remedy = remedy


class SolveFailed(FewShotError):
    """A task that was not answered, where a page needs its trace."""


class BodyTooLarge(FewShotError):
    """A body that is longer than the server takes."""

    status = 413
    field = "body"

    def __init__(self, at_most: int) -> None:
        super().__init__(f"the body has more than {at_most} bytes. Send fewer tasks at once.")


class NoAdapter(FewShotError):
    """A trace whose solve trained nothing, or whose adapter is not kept any more."""

    def __init__(self, why: str) -> None:
        super().__init__(f"{why}. Solve the task with arm='ttt' to have one.")
