"""What is wrong with a ledger: pages, rows, references, triggers, aliases and policy files are looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, RowMapping, Table, inspect, select, text

from policies import policy_files
from policies.append_only import pruning_trigger_names, trigger_names
from policies.database import Database, Place, quarantine
from policies.errors import LedgerLocked, LedgerUnavailable
from policies.schema import schema_version
from policies.tables import ALIAS_MOVES, APPEND_ONLY, POLICY_VERSIONS, PRUNABLE, TRACE_PRUNINGS, is_whole

BUSY_TIMEOUT_S = 5.0
DAMAGE = ("pages", "references", "rows")  # what is lost or changed; the other checks name what can be put right


@dataclass(frozen=True, slots=True)
class CheckFinding:
    """What one check of a ledger found."""

    check: str
    ok: bool
    found: str


def check(url_or_path: str | Path, *, files: Path | None = None) -> tuple[CheckFinding, ...]:
    """Look at all of a ledger, also at one that is set aside as damaged; damage that is found sets it aside.

    Args:
        files: folder of the policies, as for `Ledger.open`.

    Raises:
        LedgerUnavailable: there is nothing to look at.
        LedgerLocked: another program holds it.
    """
    place = Place.of(url_or_path)
    place.require_file()
    files = files or place.policy_folder
    database = Database(place, busy_timeout_s=BUSY_TIMEOUT_S, quarantined_too=True)
    checks: dict[str, Callable[[Connection], str | None]] = {
        "schema": lambda connection: _bad_schema(connection, place),
        "pages": _bad_pages,
        "references": _bad_references,
        "rows": _bad_rows,
        "append-only": _missing_triggers,
        "epochs": _bad_epochs,
        "policies": lambda connection: _bad_files(connection, files),
    }
    found = [CheckFinding("quarantine", not (place.mark and place.mark.exists()), _mark_said(place))]
    try:
        found += [_looked_at(database, name, look) for name, look in checks.items()]
    finally:
        database.close()
    is_marked, is_ours = not found[0].ok, found[1].ok
    damage = "; ".join(finding.found for finding in found if finding.check in DAMAGE and not finding.ok)
    if damage and is_ours and not is_marked:
        quarantine(place, damage)
    return tuple(found)


def _looked_at(database: Database, name: str, look: Callable[[Connection], str | None]) -> CheckFinding:
    try:
        with database.reading() as connection:
            problem = look(connection)
    except LedgerLocked:  # says nothing of the ledger, and must not pass for damage
        raise
    except LedgerUnavailable as error:
        problem = str(error)
    return CheckFinding(name, problem is None, problem or "ok")


def _mark_said(place: Place) -> str:
    return "set aside as damaged" if place.mark and place.mark.exists() else "ok"


def _bad_schema(connection: Connection, place: Place) -> str | None:
    if not inspect(connection).has_table("meta"):
        return "holds no ledger"
    schema_version(connection, place.shown)  # an older one is no fault: the next use brings it up to date
    return None


def _bad_pages(connection: Connection) -> str | None:
    if connection.dialect.name != "sqlite":
        return None
    lines = connection.exec_driver_sql("PRAGMA integrity_check(5)").scalars().all()
    return None if lines == ["ok"] else "; ".join(" ".join(str(line).split()) for line in lines)


def _bad_references(connection: Connection) -> str | None:
    if connection.dialect.name != "sqlite":
        return None  # the server holds them
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    return f"{len(broken)} rows refer to rows that are not there" if broken else None


def _bad_rows(connection: Connection) -> str | None:
    inspector = inspect(connection)
    bad = {
        table.name: sum(not is_whole({"digest": None, **row}) for row in _all_of(connection, table))
        for table in APPEND_ONLY
        if inspector.has_table(table.name)
    }
    said = ", ".join(f"{n} of {name}" for name, n in bad.items() if n)
    return f"not as they were written: {said}" if said else None


def _all_of(connection: Connection, table: Table) -> Iterable[RowMapping]:
    """The rows as they are there: an older schema has fewer columns."""
    return connection.execute(text(f"SELECT * FROM {table.name}")).mappings()


def _missing_triggers(connection: Connection) -> str | None:
    query = (
        "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        if connection.dialect.name == "sqlite"
        else "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled = 'A'"
    )
    there = set(connection.execute(text(query)).scalars())
    dialect, present = connection.dialect.name, _present(connection)
    wanted = {name for table in present for name in trigger_names(dialect, table.name)}
    if TRACE_PRUNINGS in present:
        wanted |= {name for table in PRUNABLE for name in pruning_trigger_names(dialect, table.name)}
    return f"triggers are missing: {', '.join(sorted(wanted - there))}" if wanted - there else None


def _bad_epochs(connection: Connection) -> str | None:
    if ALIAS_MOVES not in _present(connection):
        return None
    epochs: dict[str, list[int]] = {}
    for row in connection.execute(select(ALIAS_MOVES.c.alias, ALIAS_MOVES.c.epoch).order_by(ALIAS_MOVES.c.seq)):
        epochs.setdefault(row.alias, []).append(row.epoch)
    bad = [alias for alias, found in epochs.items() if found != list(range(1, len(found) + 1))]
    return f"epochs are not in a row: {', '.join(bad)}" if bad else None


def _bad_files(connection: Connection, folder: Path | None) -> str | None:
    if POLICY_VERSIONS not in _present(connection):
        return None
    known = connection.execute(select(POLICY_VERSIONS.c.version_id)).scalars().all()
    if folder is None:
        return f"{len(known)} versions, and no folder is known to look for them" if known else None
    bad = [version_id for version_id in known if not _loads(folder, version_id)]
    return f"missing or damaged in {folder}: {', '.join(bad)}" if bad else None


def _loads(folder: Path, version_id: str) -> bool:
    path = policy_files.path_of(folder, version_id)
    return path.is_file() and policy_files.version_id_of(path.read_bytes()) == version_id


def _present(connection: Connection) -> list[Table]:
    """The tables that an older schema has, in the form this release reads."""
    inspector = inspect(connection)
    return [
        table
        for table in APPEND_ONLY
        if inspector.has_table(table.name)
        and {column["name"] for column in inspector.get_columns(table.name)} >= set(table.c.keys())
    ]
