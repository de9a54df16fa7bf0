"""PostgreSQL made to keep what it acknowledges, and to let one writer write at a time."""

from __future__ import annotations

from sqlalchemy import URL, Connection, Engine, create_engine

CONNECT_TIMEOUT_S = 5
_LINE = {  # of libpq: a connection whose other end is gone without a word breaks within about 10 s, not many minutes
    "keepalives": 1,
    "keepalives_idle": 4,  # s
    "keepalives_interval": 2,  # s
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # ms, for what was sent and not acknowledged
}
_WRITE_LOCK = 0x747474_6C6564  # any number that no other program takes an advisory lock on


def postgresql_engine(url: URL, busy_timeout_s: float) -> Engine:
    settings = {
        "synchronous_commit": "on",  # a server set up to acknowledge before it has written does not do so for us
        "lock_timeout": f"{max(1, round(busy_timeout_s * 1000))}",  # 0 would mean for ever
        "application_name": "ttt-router",
    }
    given = url.query.get("options", ())  # such as a search_path; ours come last and win
    options = [given] if isinstance(given, str) else list(given)
    options += [f"-c {name}={value}" for name, value in settings.items()]
    line = {name: value for name, value in _LINE.items() if name not in url.query}
    return create_engine(
        url,
        isolation_level="READ COMMITTED",  # a writer has to see what was committed while it waited for its turn
        pool_pre_ping=True,  # a server that was restarted costs a new connection, not a failed write
        connect_args={"options": " ".join(options), "connect_timeout": CONNECT_TIMEOUT_S, **line},
    )


def take_write_lock(connection: Connection) -> None:
    """Wait until no other transaction writes. Without it a transaction with a lower `seq` could commit after one with a
    higher, and a reader that goes on from the highest it has seen would never see it.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITE_LOCK})")
