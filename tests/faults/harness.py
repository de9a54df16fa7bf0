"""What a harness is: something that breaks a store on purpose and holds what came of it against a target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One number a harness found."""

    figure: str
    value: str
    target: str
    met: bool


@dataclass(frozen=True, slots=True)
class Harness:
    """One module of this folder gives one, under the name `HARNESS`; `python -m tests.faults` finds it there."""

    name: str  # "ledger-kills": what it breaks, then how; `--only ledger` runs all that begin so
    what: str  # what is done, for the table
    target: str  # what is promised, in a few words
    run: Callable[[bool], Sequence[Figure]]  # True: in full, for the table; False: the short form of `make test`

    @property
    def command(self) -> str:
        """The command that makes this harness's rows of the table."""
        return f"python -m tests.faults --only {self.name}"
