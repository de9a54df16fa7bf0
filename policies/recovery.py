"""What of a damaged SQLite ledger can be saved. Nothing damaged is guessed at.

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

from sqlalchemy import Table, insert
from sqlalchemy.exc import IntegrityError

from policies.checking import check
from policies.database import Database, Place, faults_named, utc_now
from policies.errors import LedgerLocked, LedgerTooNew, LedgerUnavailable
from policies.ledger import Ledger
from policies.schema import schema_version
from policies.tables import APPEND_ONLY, PRUNABLE, is_whole

_MAGIC = b"SQLite format 3\0"
_UNREADABLE = (sqlite3.DatabaseError, UnicodeDecodeError)  # its words on damage may quote the damage
_BESIDE = ("-journal", "-wal", "-shm")  # what SQLite keeps beside its file


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


def recover(path: str | Path, *, to: Path | None = None) -> Recovery:
    """Save what can be read of a SQLite ledger, and put it in the place of the damaged file.

    Stop whatever uses the ledger first. The damaged file is kept under another name.

    Args:
        to: save it there instead, where there is nothing yet, and leave the damaged file where it is.

    Raises:
        LedgerUnavailable: no file, no room, something at `to`, or nothing in it can be read.
        LedgerLocked: another program holds it.
        LedgerTooNew: a later release made it, so this one cannot tell what is damaged.
    """
    place = Place.of(path)
    if place.file is None or place.mark is None or not place.file.is_file():
        remedy = "Name a SQLite file; a server has its own ways to recover."
        raise LedgerUnavailable(place.shown, "there is no such file", remedy=remedy)
    if to is not None and to.exists():
        raise LedgerUnavailable(str(to), "is there already", remedy="Name a file that is not there yet.")
    with faults_named(place):
        return _recovered(place, place.file, place.mark, to)


def _recovered(place: Place, file: Path, mark: Path, to: Path | None) -> Recovery:
    _refuse_if_newer(place)
    found = {finding.check: finding.ok for finding in check(file)}
    if all(found[name] for name in ("schema", "pages", "references", "rows")):
        mark.unlink(missing_ok=True)
        return Recovery(file, None, None, ())
    was_marked = mark.exists()
    mark.touch()  # from here on nobody opens it
    stamp = utc_now().strftime("%Y%m%dT%H%M%SZ")
    target = to or file
    rest_as = target.with_name(f"{target.name}.{stamp}.rest.jsonl")
    with tempfile.TemporaryDirectory(prefix=".recovery-", dir=target.parent) as scratch:
        saved = Path(scratch) / "saved.sqlite"
        try:
            tables, n_rest = _salvage(_copied(file, Path(scratch)), saved, rest_as, place)
        except BaseException:
            if not was_marked:  # it may be no ledger at all
                mark.unlink(missing_ok=True)
            raise
        damaged_as = None if to is not None else file.with_name(f"{file.name}.{stamp}.damaged")
        if damaged_as is not None:
            for suffix in ("", *_BESIDE):
                beside = file.with_name(file.name + suffix)
                if beside.exists():
                    beside.replace(damaged_as.with_name(damaged_as.name + suffix))
        saved.replace(target)
        _sync(target)
    if damaged_as is not None:
        mark.unlink(missing_ok=True)
    return Recovery(target, damaged_as, rest_as if n_rest else None, tables)


def _refuse_if_newer(place: Place) -> None:
    with closing(Database(place, busy_timeout_s=5.0, quarantined_too=True)) as database:
        try:
            with database.reading() as connection:
                schema_version(connection, place.shown)
        except (LedgerTooNew, LedgerLocked):
            raise
        except LedgerUnavailable:  # damaged, or no ledger
            return


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
        if last and "seq" in table.c:  # no number is given twice, also none whose row is lost
            connection.exec_driver_sql("DELETE FROM sqlite_sequence WHERE name = ?", (table.name,))
            connection.exec_driver_sql("INSERT INTO sqlite_sequence VALUES (?, ?)", (table.name, last))
    missing = None if last is None else max(last - saved - n_damaged - refused - _n_pruned(damaged, table), 0)
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


def _n_pruned(damaged: sqlite3.Connection, table: Table) -> int:
    """Return how many rows of the table were deleted on purpose."""
    if table not in PRUNABLE:
        return 0
    try:
        return int(damaged.execute("SELECT coalesce(sum(n_traces), 0) FROM trace_prunings").fetchone()[0])
    except _UNREADABLE:  # or a schema before there were any
        return 0


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
