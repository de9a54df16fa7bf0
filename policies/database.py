"""One SQL database: how it is reached, its transactions, and what its faults are called.

Writers take turns, on PostgreSQL too, so that the order of `seq` is the order of commits. Knows nothing of the rows.
"""

from __future__ import annotations

import errno
import json
import os
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self, TypeVar

from sqlalchemy import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError

from policies.errors import LedgerCorrupt, LedgerFull, LedgerLocked, LedgerUnavailable
from policies.group_commit import GroupCommit
from policies.postgresql import postgresql_engine, take_write_lock
from policies.sqlite import Durability, durability_for, sqlite_engine

FILE_NAME = "ledger.sqlite"
FILE_SUFFIXES = (".sqlite", ".sqlite3", ".db")
MARK_SUFFIX = ".quarantined"
# From memory, on one core: 0.05 s for 88 MB of traces, 0.26 s for 60 MB of outcomes, whose index is checked too.
CHECKED_AT_OPEN_BYTES = 256_000_000

_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*")
_INHERITED: list[object] = []  # connections of the process that this one was forked from

Written = TypeVar("Written")
Reached = Callable[[str], object]  # is told which step of a write has just been done


def nothing(_step: str) -> None:
    """What is called after each step where nobody wants to know."""


def utc_now() -> datetime:
    return datetime.now(UTC)


class DamagedRow(Exception):
    """A row that is not as it was written; whoever reads it gets `LedgerCorrupt`."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a database is."""

    url: URL
    shown: str  # without a password
    file: Path | None  # of SQLite

    @classmethod
    def of(cls, url_or_path: str | Path) -> Self:
        """Read a SQLAlchemy URL, the path of a file, or that of a home folder.

        Raises:
            LedgerUnavailable: it is no URL, a database that lives in memory, or neither SQLite nor PostgreSQL.
        """
        url = _url_of(url_or_path)
        if url.get_backend_name() != "sqlite":
            if url.drivername in ("postgres", "postgresql"):
                url = url.set(drivername="postgresql+psycopg")
            if url.get_backend_name() != "postgresql":
                problem = f"{url.get_backend_name()} is no database that this release knows how to keep promises on"
                raise LedgerUnavailable(_without_passwords(url), problem, remedy="Name an SQLite file or a PostgreSQL.")
            return cls(url, _without_passwords(url), None)
        if not url.database or url.database == ":memory:":
            raise LedgerUnavailable("in memory", "would be lost with the process", remedy="Name a file or a folder.")
        if url.database.startswith("file:"):
            return cls(url, url.database, None)
        file = Path(url.database).absolute()  # the working folder may change
        return cls(url.set(database=str(file)), url.database, file)

    @property
    def policy_folder(self) -> Path | None:
        """Where the policies are by default, beside the file. Ledgers that share a folder do not share this one: what
        one of them knows nothing of, its sweep would remove.
        """
        if self.file is None:
            return None
        return self.file.with_name("policies" if self.file.name == FILE_NAME else f"{self.file.name}.policies")

    def require_file(self) -> None:
        """Make sure that there is something, where a SQLite file is named.

        Raises:
            LedgerUnavailable: there is no such file.
        """
        if self.file is not None and not self.file.is_file():
            raise LedgerUnavailable(self.shown, "there is no such file", remedy="Name the ledger that is in use.")

    @property
    def mark(self) -> Path | None:
        """The file whose presence says that the ledger beside it is damaged and not to be touched."""
        return None if self.file is None else self.file.with_name(self.file.name + MARK_SUFFIX)


class Database:
    """Reads and writes in transactions. Safe between threads and processes, and in a child after a fork."""

    def __init__(
        self, place: Place, *, busy_timeout_s: float, reached: Reached = nothing, quarantined_too: bool = False
    ) -> None:
        """Connect to nothing yet.

        Args:
            quarantined_too: look at a file that is set aside as damaged, in order to see what is wrong with it.

        Raises:
            LedgerUnavailable: no driver for this URL, or a folder that may not be written.
        """
        self.place = place
        self.durability: Durability | None = None  # None: not SQLite, durability is the server's
        self._reached = reached
        self._quarantined_too = quarantined_too
        self._pid = os.getpid()
        self._writers, self._busy_timeout_s = threading.Lock(), busy_timeout_s
        self._group = GroupCommit(self.writing)
        with faults_named(place):
            if place.url.get_backend_name() == "sqlite":
                self.durability = durability_for(sqlite3.sqlite_version_info[:3])
                _make_folder(place)
                self._engine: Engine = sqlite_engine(place.url, self.durability, busy_timeout_s)
            else:
                self._engine = postgresql_engine(place.url, busy_timeout_s)

    def close(self) -> None:
        """Give back the connections; closing twice is harmless."""
        self._engine.dispose()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give a connection in a transaction that no other writer shares, and commit it."""
        with faults_named(self.place), self._turn():
            with self._usable_engine().begin() as connection:
                take_write_lock(connection)
                yield connection
                self._reached("before commit")
            self._reached("after commit")

    def write(self, work: Callable[[Connection], Written]) -> Written:
        """Let `work` write, and return what it returns once that is committed: together with what other threads have
        waiting then, in one transaction. `work` is called once more, by itself, where any of them fails.
        """
        self._note_fork()
        return self._group.write(work)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection in which every statement sees the same moment."""
        with faults_named(self.place), self._usable_engine().connect() as connection:
            if connection.dialect.name == "postgresql":
                yield connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            else:
                yield connection.execution_options(ledger_reads=True)

    def require_integrity(self) -> None:
        """Let SQLite look for damage, unless the file is so large that it would take long.

        Raises:
            LedgerCorrupt: there is some; the file is set aside.
        """
        file = self.place.file
        if file is not None and file.exists() and file.stat().st_size <= CHECKED_AT_OPEN_BYTES:
            with self.reading() as connection:
                found = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalars().all()
                if found != ["ok"]:
                    raise DamagedRow("; ".join(str(line) for line in found))

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Let the threads of this process write to a file one after the other.

        SQLite would let them look again now and then, for up to a tenth of a second each time. Whoever waits for longer
        than SQLite would tries all the same, and hears from it that the file is locked.
        """
        self._note_fork()
        writers = self._writers
        taken = self.place.file is not None and writers.acquire(timeout=self._busy_timeout_s)
        try:
            yield
        finally:
            if taken:
                writers.release()

    def _note_fork(self) -> None:
        if os.getpid() != self._pid:  # the connections are the parent's, who still talks through them, and so are turns
            _INHERITED.append(self._engine.pool)  # to close one here would roll back what the parent is writing
            self._engine.dispose(close=False)
            self._writers, self._group, self._pid = threading.Lock(), GroupCommit(self.writing), os.getpid()

    def _usable_engine(self) -> Engine:
        mark = self.place.mark
        if mark is not None and mark.exists() and not self._quarantined_too:
            raise _corrupt(self.place, f"is set aside as damaged ({_said_of(mark)})")
        self._note_fork()
        return self._engine


_REMEDY = "Give a file or folder that can be read and written."
_SERVER_REMEDY = "See that the server runs and lets this user in and write."


@contextmanager
def faults_named(place: Place) -> Iterator[None]:
    """Turn what the driver or the file system says into our errors; a broken constraint passes through."""
    shown = place.shown
    try:
        yield
    except IntegrityError:
        raise
    except DBAPIError as error:
        raise _named(error, place) from error
    except (
        DamagedRow,
        UnicodeDecodeError,
        json.JSONDecodeError,
    ) as error:  # SQLite's words on damage may be no UTF-8
        problem = " ".join(str(error).split())
        quarantine(place, problem)
        raise _corrupt(place, problem) from error
    except OSError as error:
        problem = error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise LedgerFull(shown, problem, remedy="Free some space on its disk.") from error
        raise LedgerUnavailable(shown, problem, remedy=_REMEDY) from error
    except (NoSuchModuleError, ImportError) as error:
        remedy = "Install the driver for this URL: pip install 'ttt-router[postgres]' brings the one for PostgreSQL."
        raise LedgerUnavailable(shown, str(error), remedy=remedy) from error


def quarantine(place: Place, problem: str) -> None:
    """Mark a damaged file, so that nobody opens, changes or replaces it before a person has looked at it."""
    if place.mark is not None:
        try:
            place.mark.write_text(f"{problem}, seen {utc_now().isoformat(timespec='seconds')}\n")
        except OSError:  # the folder may be what is damaged; the error says it all the same
            return


def _named(error: DBAPIError, place: Place) -> LedgerUnavailable:
    problem = " ".join(str(error.orig).split())
    if place.url.get_backend_name() == "sqlite":
        code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
        if problem.startswith("Could not decode to UTF-8"):  # has no code, and quotes all of the text
            problem, code = problem.partition(" with text ")[0], sqlite3.SQLITE_CORRUPT
        if code == sqlite3.SQLITE_CORRUPT:
            quarantine(place, problem)
            return _corrupt(place, problem)
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return LedgerLocked(place.shown, problem, remedy="Another program holds it: stop that one, or try again.")
        if code == sqlite3.SQLITE_FULL:
            return LedgerFull(place.shown, problem, remedy="Free some space on its disk.")
        if code == sqlite3.SQLITE_NOTADB:
            remedy = "Move this file away, name another ledger, or see what `ttt-router ledger recover` finds in it."
            return LedgerUnavailable(place.shown, problem, remedy=remedy)
        return LedgerUnavailable(place.shown, problem, remedy=_REMEDY)
    match str(getattr(error.orig, "sqlstate", None)):
        case "XX001" | "XX002":
            return _corrupt(place, problem)
        case "55P03" | "40P01":
            return LedgerLocked(place.shown, problem, remedy="Another program holds it: stop that one, or try again.")
        case "53100":
            return LedgerFull(place.shown, problem, remedy="Free some space on the server's disk.")
        case _:
            return LedgerUnavailable(place.shown, problem, remedy=_SERVER_REMEDY)


def _corrupt(place: Place, problem: str) -> LedgerCorrupt:
    if place.file is None:
        return LedgerCorrupt(place.shown, problem, remedy="Restore the database from a copy of the server's.")
    remedy = f"Nothing reads or writes it now. Save what can be read: ttt-router ledger recover {place.shown}"
    return LedgerCorrupt(place.shown, problem, remedy=remedy)


def _said_of(mark: Path) -> str:
    try:
        return mark.read_text(errors="replace").strip()
    except OSError:
        return "reason unknown"


def _url_of(url_or_path: str | Path) -> URL:
    if isinstance(url_or_path, str) and "://" in url_or_path:
        scheme = url_or_path.partition("://")[0]
        named = f"{scheme if _SCHEME.fullmatch(scheme) else '…'}://…"  # the rest may hold a password
        try:
            url = make_url(url_or_path)
        except (ArgumentError, ValueError):  # such as a port that is no number
            raise LedgerUnavailable(named, "is not a URL", remedy="Give a path or an SQL URL.") from None
        if url.host and "@" in (url.database or ""):  # a password with a slash in it ends before the real host
            remedy = "Write / # ? and @ of a password as %2F, %23, %3F and %40."
            raise LedgerUnavailable(named, "has an @ after its host", remedy=remedy)
        return url
    path = Path(url_or_path).expanduser()
    is_file = path.is_file() or path.suffix in FILE_SUFFIXES
    return URL.create("sqlite", database=str(path if is_file else path / FILE_NAME))


def _without_passwords(url: URL) -> str:
    """Return a URL as it may be shown: neither its password nor those among its options."""
    hidden = {name: "***" if "password" in name.lower() else value for name, value in url.query.items()}
    return url.set(query=hidden).render_as_string()


def _make_folder(place: Place) -> None:
    if place.file is not None:
        folder = place.file.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # it holds people's tasks
        if not os.access(folder, os.W_OK):  # SQLite needs it for the journal, and would say so only at the first write
            raise PermissionError(errno.EACCES, f"folder {folder} may not be written")
