"""The ledger's schema: made anew, brought up to date in one transaction, or refused where a later release made it.

Alembic loads only where there is something to migrate.
"""

from __future__ import annotations

import threading
from pathlib import Path

from sqlalchemy import Connection, Table, UniqueConstraint, false, insert, inspect, select, text, update

from policies.append_only import refusals, refusals_but_pruning
from policies.errors import LedgerTooNew, LedgerUnavailable
from policies.tables import APPEND_ONLY, META, METADATA, PRUNABLE, SCHEMA_VERSION

MIGRATIONS = Path(__file__).resolve().parent / "migrations"
REVISIONS = {1: "0001", 2: "0002", 3: "0003"}  # schema version -> Alembic's name for it
NOTE_TABLE = "ledger_alembic_version"  # a server's database may hold another program's, under Alembic's own name
_ONE_AT_A_TIME = threading.Lock()  # Alembic's `op` is one for the whole process, whatever ledger a thread migrates


def create_or_migrate(connection: Connection, location: str) -> None:
    """Leave the schema of this release behind; call it under the write lock, so that of two openers one creates.

    Raises:
        LedgerTooNew: a later release made it.
        LedgerUnavailable: it is no ledger.
    """
    tables = inspect(connection).get_table_names()
    if META.name not in tables:
        foreign = tables if connection.dialect.name == "sqlite" else sorted({*tables} & {*METADATA.tables})
        if foreign:  # a server's database may be shared, but not a name
            remedy = "Name a file, or a database or schema, of its own."
            raise LedgerUnavailable(location, f"holds other tables ({', '.join(foreign[:3])})", remedy=remedy)
        _create(connection)
        return
    version = schema_version(connection, location)
    if version < SCHEMA_VERSION:
        migrate(connection, version)
    # Changes no row, yet fails here and now where the file may be read but not written.
    connection.execute(update(META).where(false()).values(value=""))


def schema_version(connection: Connection, location: str) -> int:
    """Return the schema version, one this release can read or migrate.

    Raises:
        LedgerTooNew: a later release made it.
        LedgerUnavailable: it has none, or one that no release has made.
    """
    found = connection.scalar(select(META.c.value).where(META.c.key == "schema_version"))
    if found is not None and found.isdecimal():
        if int(found) in REVISIONS:
            return int(found)
        if int(found) > SCHEMA_VERSION:
            raise LedgerTooNew(
                location,
                f"has schema version {found}, this release reads {SCHEMA_VERSION}",
                remedy="Open it with the release that made it or a later one, or name another ledger.",
            )
    raise LedgerUnavailable(
        location, f"has schema version {found}, which no release made", remedy="Name another ledger."
    )


def migrate(connection: Connection, version: int, to: int = SCHEMA_VERSION) -> None:
    """Bring the schema from `version` (0: nothing there) to `to`, in the transaction that is under way."""
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    script = ScriptDirectory.from_config(config)
    if version:  # releases that knew nothing of Alembic left no note for it
        _note(connection, version)
    environment = EnvironmentContext(config, script, fn=lambda at, _: script._upgrade_revs(REVISIONS[to], at))
    with _ONE_AT_A_TIME, environment:
        environment.configure(connection=connection, version_table=NOTE_TABLE)
        environment.run_migrations()


def unique_columns(table: Table) -> list[list[str]]:
    """Return the groups of columns that are unique together, the primary key first."""
    groups = [[column.name for column in table.primary_key.columns]]
    groups += [[column.name] for column in table.columns if column.unique]
    together = [constraint for constraint in table.constraints if isinstance(constraint, UniqueConstraint)]
    groups += sorted([column.name for column in constraint.columns] for constraint in together)
    return [group for i, group in enumerate(groups) if group not in groups[:i]]


def _create(connection: Connection) -> None:
    METADATA.create_all(connection)
    for table in APPEND_ONLY:
        refused = refusals_but_pruning if table in PRUNABLE else refusals
        for statement in refused(connection.dialect.name, table.name, unique_columns(table)):
            connection.exec_driver_sql(statement)
    _note(connection, SCHEMA_VERSION)
    connection.execute(insert(META).values(key="schema_version", value=str(SCHEMA_VERSION)))


def _note(connection: Connection, version: int) -> None:
    """Write down for Alembic which revision this is, as Alembic itself does."""
    connection.execute(text(f"CREATE TABLE IF NOT EXISTS {NOTE_TABLE} (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
    connection.execute(text(f"DELETE FROM {NOTE_TABLE}"))
    connection.execute(text(f"INSERT INTO {NOTE_TABLE} VALUES (:revision)"), {"revision": REVISIONS[version]})
