"""What can go wrong with a trace that was kept."""

from __future__ import annotations

from icl_engine.errors import FewShotError


class TraceNotKept(FewShotError):
    """The decision is recorded, but its trace is not in the ledger: pruned, or never written (exit code 1)."""

    def __init__(self, trace_id: str, location: str) -> None:
        self.trace_id = trace_id
        super().__init__(
            f"decision {trace_id!r} is in ledger {location}, its trace is not: it was pruned, or could not be written. "
            "Keep traces for longer with TTT_ROUTER_TRACE_DAYS and TTT_ROUTER_TRACE_BYTES."
        )


class AmbiguousTrace(FewShotError):
    """The ids of several traces begin with what was given (exit code 2)."""

    def __init__(self, prefix: str, found: tuple[str, ...]) -> None:
        self.prefix = prefix
        super().__init__(f"trace {prefix!r} is not one: {', '.join(found)} begin so. Give more characters of the id.")


class UnreadableTrace(FewShotError):
    """A trace of a later release, or a document that is none (exit code 1)."""

    def __init__(self, trace_id: str, problem: str) -> None:
        self.trace_id = trace_id
        super().__init__(f"trace {trace_id!r} cannot be read: {problem}. Read it with the release that wrote it.")


class UnknownPolicy(FewShotError):
    """No policy of this name and version can be made here (exit code 2)."""

    def __init__(self, policy: str) -> None:
        self.policy = policy
        super().__init__(
            f"policy {policy!r} is not known here. Give the policy itself, or a version that this ledger holds."
        )


class PushFailed(FewShotError):
    """A collector did not take the traces (exit code 4).

    Args:
        endpoint: where to, without password.
    """

    def __init__(self, endpoint: str, problem: str, *, remedy: str) -> None:
        self.endpoint = endpoint
        self.remedy = remedy
        super().__init__(f"{endpoint}: {problem}. {remedy}")
