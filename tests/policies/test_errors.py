"""Every fault of this package is a `FewShotError` and says what would do."""

from __future__ import annotations

import inspect

from icl_engine.errors import FewShotError
from policies import LedgerUnavailable, OutcomeConflict, errors


def test_every_error_hangs_under_the_one_root() -> None:
    leaves = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if cls.__module__ == errors.__name__]

    assert leaves
    assert all(issubclass(cls, FewShotError) for cls in leaves)


def test_an_unavailable_ledger_names_place_problem_and_remedy() -> None:
    error = LedgerUnavailable("home/ledger.sqlite", "file is not a database", remedy="Name another ledger.")

    assert str(error) == "ledger home/ledger.sqlite: file is not a database. Name another ledger."
    assert error.remedy == "Name another ledger."


def test_a_conflicting_outcome_shows_both_values() -> None:
    message = str(OutcomeConflict("trace-1", source="user", kind="correct", recorded=1.0, given=0.0))

    assert "correct = 1 from 'user', got 0" in message
