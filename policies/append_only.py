"""Triggers that keep the ledger's tables append-only whoever writes to them, on SQLite and on PostgreSQL.

Migrations call `refusals` and `refusals_but_pruning` too: what they return for a released table must not change.
"""

from __future__ import annotations

from collections.abc import Sequence

SAID = "the ledger is append-only"

POSTGRESQL_FUNCTION = f"""
    CREATE OR REPLACE FUNCTION ledger_append_only() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION '{SAID}' USING ERRCODE = 'integrity_constraint_violation'; END $$
"""

_NOT_PRUNED = (
    "coalesce((SELECT max(upto_seq) FROM trace_prunings), 0) "
    "< coalesce((SELECT seq FROM trace_summaries WHERE trace_id = OLD.trace_id), 9223372036854775807)"
)

POSTGRESQL_PRUNING_FUNCTION = f"""
    CREATE OR REPLACE FUNCTION ledger_pruned_only() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN
        IF {_NOT_PRUNED} THEN
            RAISE EXCEPTION '{SAID}' USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN OLD;
    END $$
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


def refusals_but_pruning(dialect: str, table: str, uniques: Sequence[Sequence[str]]) -> list[str]:
    """As `refusals`, for a table whose oldest rows may be deleted: those that a row of `trace_prunings` speaks of."""
    if dialect == "sqlite":
        pruning = (
            f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} WHEN {_NOT_PRUNED} "
            f"BEGIN SELECT RAISE(ABORT, '{SAID}'); END"
        )
        return [_sqlite_refusal(table, "UPDATE"), pruning, _sqlite_no_replace(table, uniques)]
    return [
        POSTGRESQL_FUNCTION,
        POSTGRESQL_PRUNING_FUNCTION,
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION ledger_append_only()",
        f"CREATE TRIGGER {table}_pruned_only BEFORE DELETE ON {table} "
        "FOR EACH ROW EXECUTE FUNCTION ledger_pruned_only()",
        f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_append_only",
        f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_pruned_only",
    ]


def pruning_trigger_names(dialect: str, table: str) -> list[str]:
    """Return the names of the triggers that `refusals_but_pruning` makes."""
    return [*trigger_names(dialect, table), *([] if dialect == "sqlite" else [f"{table}_pruned_only"])]


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
