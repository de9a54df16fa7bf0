"""Many decisions with their outcomes in one transaction: hundreds alone would each wait for the disk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from sqlalchemy import insert

from policies import outcome_log
from policies.ledger import Ledger
from policies.records import DecisionRow, OutcomeRow
from policies.rows import decision_columns
from policies.tables import DECISIONS, sealed


def written(ledger: Ledger, rows: Iterable[tuple[DecisionRow, Sequence[OutcomeRow]]]) -> None:
    """Write them as `Ledger` would, but for the transactions."""
    with ledger._database.writing() as connection:
        for row, outcomes in rows:
            dated = replace(row, created_at=row.created_at or ledger._now())
            connection.execute(insert(DECISIONS).values(sealed(DECISIONS, decision_columns(dated))))
            for outcome in outcomes:
                outcome_log.write(connection, outcome_log.checked(outcome, ledger._now()), "")
