"""Triggers that keep the ledger's tables append-only whoever writes to them, on SQLite and on PostgreSQL.

Migrations call `refusals` too: what it returns for a table that is released must not change.
"""

from __future__ import annotations

from collections.abc import Sequence

SAID = "the ledger is append-only"

POSTGRESQL_FUNCTION = f"""
    CREATE OR REPLACE FUNCTION ledger_append_only() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION '{SAID}' USING ERRCODE = 'integrity_constraint_violation'; END $$
"""


def refusals(dialect: str, table: str, uniques: Sequence[Sequence[str]]) -> list[str]:
    """Return the statements that make `table` refuse every change of a row it has.

    Args:
        uniques: the groups of columns that are unique together.
    """
    if dialect == "sqlite":
        return [_sqlite_refusal(table, "UPDATE"), _sqlite_refusal(table, "DELETE"), _sqlite_no_replace(table, uniques)]
    name = f"{table}_append_only"
    return [
        POSTGRESQL_FUNCTION,
        f"CREATE TRIGGER {name} BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION ledger_append_only()",
        f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}",  # also in a session that replays a replica
    ]


def trigger_names(dialect: str, table: str) -> list[str]:
    """Return the names of the triggers that `refusals` makes."""
    if dialect == "sqlite":
        return [f"{table}_no_{verb}" for verb in ("update", "delete", "replace")]
    return [f"{table}_append_only"]


def _sqlite_refusal(table: str, verb: str) -> str:
    return f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} BEGIN SELECT RAISE(ABORT, '{SAID}'); END"


def _sqlite_no_replace(table: str, uniques: Sequence[Sequence[str]]) -> str:
    """INSERT OR REPLACE deletes the row in its way without asking a trigger on DELETE, so it is stopped before."""
    same = " OR ".join(
        "(" + " AND ".join(f"{column} = NEW.{column}" for column in columns) + ")" for columns in uniques
    )
    return (
        f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} "
        f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {same}) BEGIN SELECT RAISE(ABORT, '{SAID}'); END"
    )
