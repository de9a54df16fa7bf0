"""Schema 2: predicted cost of every arm, digests, corrections, repeats, policy versions and aliases.

Nothing that is recorded changes: what older rows lack stays NULL.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from policies.append_only import refusals

revision = "0002"
down_revision = "0001"

UNIQUE = {
    "decisions": [["seq"], ["decision_id"]],
    "outcomes": [["seq"], ["decision_id", "kind", "source"]],
    "traces": [["trace_id"]],
    "corrections": [["seq"], ["outcome_seq", "revision"]],
    "repeats": [["seq"]],
    "policy_versions": [["seq"], ["version_id"]],
    "policy_states": [["seq"]],
    "alias_moves": [["seq"], ["alias", "epoch"]],
}


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    if dialect == "postgresql":
        for table in ("decisions", "outcomes"):
            op.alter_column(table, "seq", type_=sa.BigInteger)
            op.execute(f"ALTER SEQUENCE {table}_seq_seq AS bigint")
    op.add_column("decisions", sa.Column("predicted_costs", sa.Text))
    for table in ("decisions", "outcomes", "traces"):
        op.add_column(table, sa.Column("digest", sa.String))
    _create_tables()
    for table, uniques in UNIQUE.items():
        if dialect == "sqlite":
            for verb in ("update", "delete"):
                op.execute(f"DROP TRIGGER IF EXISTS {table}_no_{verb}")
        for statement in refusals(dialect, table, uniques):
            op.execute(statement)
    op.execute("UPDATE meta SET value = '2' WHERE key = 'schema_version'")


def _create_tables() -> None:
    op.create_table(
        "corrections",
        _seq(),
        sa.Column("outcome_seq", sa.BigInteger, sa.ForeignKey("outcomes.seq"), nullable=False),
        sa.Column("revision", sa.Integer, sa.CheckConstraint("revision >= 1"), nullable=False),
        _value(),
        sa.Column("reason", sa.Text, nullable=False),
        *_made(),
        sa.UniqueConstraint("outcome_seq", "revision"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "repeats",
        _seq(),
        sa.Column("outcome_seq", sa.BigInteger, sa.ForeignKey("outcomes.seq"), nullable=False, index=True),
        _value(),
        *_made(),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "policy_versions",
        _seq(),
        sa.Column("version_id", sa.String, nullable=False, unique=True),
        sa.Column("parent", sa.String, sa.ForeignKey("policy_versions.version_id")),
        sa.Column("trained_to_seq", sa.BigInteger),
        sa.Column("metrics", sa.Text, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        *_made(),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "policy_states",
        _seq(),
        sa.Column("version_id", sa.String, sa.ForeignKey("policy_versions.version_id"), nullable=False, index=True),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        *_made(),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "alias_moves",
        _seq(),
        sa.Column("alias", sa.String, nullable=False),
        sa.Column("epoch", sa.BigInteger, sa.CheckConstraint("epoch >= 1"), nullable=False),
        sa.Column("version_id", sa.String, sa.ForeignKey("policy_versions.version_id")),
        sa.Column("reason", sa.Text, nullable=False),
        *_made(),
        sa.UniqueConstraint("alias", "epoch"),
        sqlite_autoincrement=True,
    )


def _seq() -> sa.Column[int]:
    return sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True)


def _value() -> sa.Column[float]:
    return sa.Column("value", sa.Double, sa.CheckConstraint("value >= 0 AND value <= 1"), nullable=False)


def _made() -> tuple[sa.Column[str], sa.Column[str]]:
    return sa.Column("created_at", sa.String, nullable=False), sa.Column("digest", sa.String)
