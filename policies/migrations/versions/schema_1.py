"""Schema 1, of release 0.1: decisions, outcomes and traces. Kept so that a step down the line can be tested on it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "meta",
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("value", sa.String, nullable=False),
    )
    op.create_table(
        "decisions",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("decision_id", sa.String, nullable=False, unique=True),
        sa.Column("created_at", sa.String, nullable=False),
        sa.Column("task_fingerprint", sa.String, nullable=False, index=True),
        sa.Column("task_id", sa.String, nullable=False),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("features", sa.Text, nullable=False),
        sa.Column("features_schema", sa.String, nullable=False),
        sa.Column("arm", sa.String, nullable=False),
        sa.Column("propensity", sa.Double, sa.CheckConstraint("propensity > 0 AND propensity <= 1"), nullable=False),
        sa.Column("propensities", sa.Text, nullable=False),
        sa.Column("policy", sa.String, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("difficulty", sa.Double, nullable=False),
        sa.Column("predicted_cost_s", sa.Double),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("gpu_seconds", sa.Double, nullable=False),
        sa.Column("tokens", sa.BigInteger, nullable=False),
        sa.Column("degraded", sa.Text, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "outcomes",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("decision_id", sa.String, sa.ForeignKey("decisions.decision_id"), nullable=False),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("value", sa.Double, sa.CheckConstraint("value >= 0 AND value <= 1"), nullable=False),
        sa.Column("created_at", sa.String, nullable=False),
        sa.UniqueConstraint("decision_id", "kind", "source"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "traces",
        sa.Column("trace_id", sa.String, sa.ForeignKey("decisions.decision_id"), primary_key=True),
        sa.Column("schema_version", sa.Integer, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
    )
    if op.get_bind().dialect.name == "sqlite":
        for table in ("decisions", "outcomes", "traces"):
            for verb in ("UPDATE", "DELETE"):
                op.execute(
                    f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                    "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
                )
    op.execute("INSERT INTO meta VALUES ('schema_version', '1')")
