"""Schema 3: summaries of traces, so that many can be listed, and prunings, so that traces need not stay for ever.

Every trace that is there gets its summary. Nothing that is recorded changes.
"""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

from policies.append_only import refusals, refusals_but_pruning
from policies.tables import digest_of

revision = "0003"
down_revision = "0002"

_SUMMARISED = """
    SELECT t.trace_id, d.created_at, d.task_id, d.tenant, d.arm, d.policy, d.seconds, d.difficulty, d.degraded,
        {size} AS size_bytes
    FROM traces AS t JOIN decisions AS d ON d.decision_id = t.trace_id ORDER BY d.seq
"""


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    _create_tables()
    _summarise(dialect)
    if dialect == "sqlite":
        for verb in ("update", "delete", "replace"):
            op.execute(f"DROP TRIGGER traces_no_{verb}")
    else:
        op.execute("DROP TRIGGER traces_append_only ON traces")
    for table, uniques in {"traces": [["trace_id"]], "trace_summaries": [["seq"], ["trace_id"]]}.items():
        for statement in refusals_but_pruning(dialect, table, uniques):
            op.execute(statement)
    for statement in refusals(dialect, "trace_prunings", [["seq"]]):
        op.execute(statement)
    op.execute("UPDATE meta SET value = '3' WHERE key = 'schema_version'")


def _create_tables() -> None:
    op.create_table(
        "trace_summaries",
        _seq(),
        sa.Column("trace_id", sa.String, sa.ForeignKey("decisions.decision_id"), nullable=False, unique=True),
        sa.Column("created_at", sa.String, nullable=False, index=True),
        sa.Column("task_id", sa.String, nullable=False),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("arm", sa.String, nullable=False),
        sa.Column("answered_by", sa.String),
        sa.Column("policy", sa.String, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("difficulty", sa.Double, nullable=False),
        sa.Column("confidence", sa.Double),
        sa.Column("regret", sa.Double, index=True),
        sa.Column("n_degraded", sa.Integer, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.String),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "trace_prunings",
        _seq(),
        sa.Column("upto_seq", sa.BigInteger, nullable=False, index=True),
        sa.Column("n_traces", sa.BigInteger, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("created_at", sa.String, nullable=False),
        sa.Column("digest", sa.String),
        sqlite_autoincrement=True,
    )


def _summarise(dialect: str) -> None:
    connection = op.get_bind()
    size = "length(CAST(t.document AS BLOB))" if dialect == "sqlite" else "octet_length(t.document)"
    for found in connection.execute(sa.text(_SUMMARISED.format(size=size))).mappings().all():
        row = {name: value for name, value in found.items() if name != "degraded"}
        row |= {"answered_by": None, "confidence": None, "regret": None}
        row["n_degraded"] = len(json.loads(found["degraded"]))
        row["digest"] = digest_of(row)
        names = ", ".join(row)
        values = ", ".join(f":{name}" for name in row)
        connection.execute(sa.text(f"INSERT INTO trace_summaries ({names}) VALUES ({values})"), row)


def _seq() -> sa.Column[int]:
    return sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True)
