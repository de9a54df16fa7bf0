"""What is wrong with a ledger, and what of a damaged SQLite file can be saved. Nothing damaged is guessed at.

A row is saved if it can be read and is as it was written; the others are counted, and kept beside for a person to see.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Table, insert, inspect, select, text
from sqlalchemy.exc import IntegrityError

from policies import policy_files
from policies.append_only import trigger_names
from policies.database import Database, Place, utc_now
from policies.errors import LedgerUnavailable
from policies.ledger import POLICY_FOLDER, Ledger
from policies.schema import schema_version
from policies.tables import ALIAS_MOVES, APPEND_ONLY, POLICY_VERSIONS, is_whole

_MAGIC = b"SQLite format 3\0"
_UNREADABLE = (sqlite3.DatabaseError, UnicodeDecodeError)  # its words on damage may quote the damage
_BESIDE = ("-journal", "-wal", "-shm")  # what SQLite keeps beside its file


@dataclass(frozen=True, slots=True)
class CheckFinding:
    """What one check of a ledger found."""

    check: str
    ok: bool
    found: str


@dataclass(frozen=True, slots=True)
class TableSaved:
    """What became of one table's rows."""

    table: str
    saved: int
    damaged: int  # read, and not as they were written
    refused: int  # whole, but what they refer to is lost
    missing: int | None  # not read, by the numbers that are missing; None: nothing is left to count them by


@dataclass(frozen=True, slots=True)
class Recovery:
    """What came of recovering a file."""

    saved_in: Path
    damaged_kept_as: Path | None  # None: nothing was damaged, and the file is as it was
    rest_kept_as: Path | None  # rows that were read and not saved, as JSON lines
    tables: tuple[TableSaved, ...]


def check(url_or_path: str | Path, *, files: Path | None = None) -> tuple[CheckFinding, ...]:
    """Look at all of a ledger, also at one that is set aside as damaged; damage that is found sets it aside.

    Args:
        files: folder of the policies; `policies` beside a SQLite file by default.

    Raises:
        LedgerUnavailable: there is nothing to look at.
    """
    place = Place.of(url_or_path)
    if place.file is not None and not place.file.is_file():
        raise LedgerUnavailable(place.shown, "there is no such file", remedy="Name the ledger that is in use.")
    if files is None and place.file is not None:
        files = place.file.parent / POLICY_FOLDER
    database = Database(place, busy_timeout_s=5.0, quarantined_too=True)
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
    return tuple(found)


def recover(path: str | Path, *, to: Path | None = None) -> Recovery:
    """Save what can be read of a SQLite ledger, and put it in the place of the damaged file.

    Stop whatever uses the ledger first. The damaged file is kept under another name.

    Args:
        to: save it there instead, and leave the damaged file where it is.

    Raises:
        LedgerUnavailable: no file, no room, or nothing in it can be read.
    """
    place = Place.of(path)
    if place.file is None or place.mark is None or not place.file.is_file():
        remedy = "Name a SQLite file; a server has its own ways to recover."
        raise LedgerUnavailable(place.shown, "there is no such file", remedy=remedy)
    found = {finding.check: finding.ok for finding in check(path)}
    if all(found[name] for name in ("schema", "pages", "references", "rows")):
        place.mark.unlink(missing_ok=True)
        return Recovery(place.file, None, None, ())
    place.mark.touch()  # from here on nobody opens it
    stamp = utc_now().strftime("%Y%m%dT%H%M%SZ")
    rest_as = place.file.with_name(f"{place.file.name}.{stamp}.rest.jsonl")
    with tempfile.TemporaryDirectory(prefix=".recovery-", dir=place.file.parent) as scratch:
        copy = _copied(place.file, Path(scratch))
        saved = Path(scratch) / "saved.sqlite"
        tables, n_rest = _salvage(copy, saved, rest_as, place)
        damaged_as = None if to is not None else place.file.with_name(f"{place.file.name}.{stamp}.damaged")
        if damaged_as is not None:
            for suffix in ("", *_BESIDE):
                beside = place.file.with_name(place.file.name + suffix)
                if beside.exists():
                    beside.replace(damaged_as.with_name(damaged_as.name + suffix))
        target = to or place.file
        saved.replace(target)
        _sync(target)
    if damaged_as is not None:
        place.mark.unlink(missing_ok=True)
    return Recovery(target, damaged_as, rest_as if n_rest else None, tables)


def _looked_at(database: Database, name: str, look: Callable[[Connection], str | None]) -> CheckFinding:
    try:
        with database.reading() as connection:
            problem = look(connection)
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
    bad = {
        table.name: sum(not is_whole(row) for row in connection.execute(select(table)).mappings())
        for table in _present(connection)
    }
    said = ", ".join(f"{n} of {name}" for name, n in bad.items() if n)
    return f"not as they were written: {said}" if said else None


def _missing_triggers(connection: Connection) -> str | None:
    query = (
        "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        if connection.dialect.name == "sqlite"
        else "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled = 'A'"
    )
    there = set(connection.execute(text(query)).scalars())
    wanted = {name for table in _present(connection) for name in trigger_names(connection.dialect.name, table.name)}
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


def _copied(file: Path, scratch: Path) -> Path:
    """Copy the file, with what SQLite keeps beside it, so that the damaged one stays as it is."""
    copy = scratch / file.name
    for suffix in ("", "-journal", "-wal"):
        beside = file.with_name(file.name + suffix)
        if beside.exists():
            shutil.copyfile(beside, copy.with_name(copy.name + suffix))
    with copy.open("r+b") as opened:  # the same in every SQLite file, so putting it right is no guess
        opened.write(_MAGIC)
    return copy


def _salvage(copy: Path, saved: Path, rest_as: Path, place: Place) -> tuple[tuple[TableSaved, ...], int]:
    tables, n_rest = [], 0
    with closing(sqlite3.connect(copy, isolation_level=None)) as damaged, Ledger.open(saved) as ledger:
        damaged.text_factory = lambda content: content.decode(errors="surrogateescape")
        try:
            there = {str(row[0]) for row in damaged.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        except _UNREADABLE as error:
            there = set()
            problem = str(error)
        else:
            problem = "none of a ledger's tables is in it"
        if "decisions" not in there:
            remedy = "Restore it from a copy; a specialist's tools may find more than this one does."
            raise LedgerUnavailable(place.shown, f"nothing can be saved: {problem}", remedy=remedy)
        with rest_as.open("w") as rest:
            for table in APPEND_ONLY:
                if table.name in there:
                    tables.append(_salvage_table(damaged, ledger, table, lambda line: print(line, file=rest)))
                    n_rest += tables[-1].damaged + tables[-1].refused
    if not n_rest:
        rest_as.unlink()
    return tuple(tables), n_rest


def _salvage_table(
    damaged: sqlite3.Connection, ledger: Ledger, table: Table, keep: Callable[[str], object]
) -> TableSaved:
    last = _last_number(damaged, table.name)
    saved = n_damaged = refused = 0
    with ledger._database.writing() as connection:
        for row in _readable_rows(damaged, table, last or 0):
            if not is_whole(row):
                n_damaged += 1
                keep(_line(table.name, "damaged", row))
                continue
            try:
                with connection.begin_nested():
                    connection.execute(insert(table).values(dict(row)))
                saved += 1
            except IntegrityError:
                refused += 1
                keep(_line(table.name, "refers to what is lost", row))
    missing = None if last is None else max(last - saved - n_damaged - refused, 0)
    return TableSaved(table.name, saved, n_damaged, refused, missing)


def _last_number(damaged: sqlite3.Connection, table: str) -> int | None:
    """Return the highest number that the table has ever given, by whatever can still be read of that."""
    found = []
    for query in (
        f"SELECT seq FROM sqlite_sequence WHERE name = '{'decisions' if table == 'traces' else table}'",
        f"SELECT max(rowid) FROM {table}",
    ):
        try:
            found += [row[0] for row in damaged.execute(query) if isinstance(row[0], int) and 0 < row[0] < 2**40]
        except _UNREADABLE:
            continue
    return max(found, default=0) if found else (0 if _is_empty(damaged, table) else None)


def _is_empty(damaged: sqlite3.Connection, table: str) -> bool:
    try:
        return damaged.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() is None
    except _UNREADABLE:
        return False


def _readable_rows(damaged: sqlite3.Connection, table: Table, last: int) -> Iterator[Mapping[str, object]]:
    """Yield every row that can be read: a range that cannot be is halved until the bad rows are left alone."""
    names = {str(row[1]) for row in damaged.execute(f"PRAGMA table_info({table.name})")}
    columns = [name for name in table.c.keys() if name in names]  # noqa: SIM118  # keys of a table, not of a dict
    query = f"SELECT {', '.join(columns)} FROM {table.name} WHERE rowid BETWEEN ? AND ? ORDER BY rowid"
    ranges = [(1, last)]
    while ranges:
        first, end = ranges.pop()
        try:
            rows = damaged.execute(query, (first, end)).fetchall()
        except _UNREADABLE:
            if first < end:
                middle = (first + end) // 2
                ranges += [(middle + 1, end), (first, middle)]  # the lower half comes next
            continue
        for row in rows:
            yield {**dict.fromkeys(table.c.keys()), **dict(zip(columns, row, strict=True))}


def _line(table: str, why: str, row: Mapping[str, object]) -> str:
    return json.dumps({"table": table, "why": why, **row}, default=lambda value: bytes(value).hex())


def _sync(path: Path) -> None:
    for opened in (path, path.parent):
        descriptor = os.open(opened, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
