"""Calls to a Redis server or cluster: every wait bounded, one retry of a connection that broke, a breaker, and faults
in the words of a store. What is called is left to others.

RESP2, which every server and every ACL user may speak; no HELLO, no CLIENT SETINFO.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ConnectionError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TimeoutError,
)
from redis.retry import Retry

from ttt_engine.errors import AdapterRejected, StoreMisconfigured, StoreUnavailable
from ttt_engine.stores.breaker import Breaker
from ttt_engine.stores.envelope import PIECE_BYTES

_T = TypeVar("_T")

SOCKET_TIMEOUT_S = 0.25
_HINTS = {
    "NOAUTH": "Give a user and a password: redis://user:password@host.",
    "WRONGPASS": "Correct the user or the password in TTT_ROUTER_STORE_URL.",
    "NOPERM": (
        "Let the user run get, getrange, set, exists, unlink, expire, pexpire, rename, hset, hdel, hgetall, "
        "hlen, hrandfield, watch, multi, exec and ping on ~ttt:<tenant>:*."
    ),
}


class RedisConnection:
    """A server or a cluster, connected to with the first call.

    Args:
        url: `redis://`, `rediss://` or `unix://`; `?cluster=true` where it names a node of a cluster.
        breaker_pause_s: before a server that did not answer is asked again.

    Raises:
        StoreMisconfigured: the URL cannot be used.
    """

    def __init__(self, url: str, *, breaker_pause_s: float) -> None:
        self._url, self._is_cluster = _checked_url(url)
        self._client: Any = None  # made with the first call: a cluster's client connects at once
        self._lock = threading.Lock()
        self._breaker = Breaker(self.ping, pause_s=breaker_pause_s)

    def call(self, call: Callable[[Any], _T], how: str) -> _T:
        """Make a call, with one retry where a connection broke; the breaker hears how it went.

        Args:
            call: is given a client of redis-py.
            how: what an adapter was not, where it fails: read, written, checked.

        Raises:
            StoreMisconfigured: password or rights are wrong.
            StoreUnavailable: it failed, or the breaker is open.
        """
        self._breaker.check()
        started = time.monotonic()
        try:
            with _typed(how):
                try:
                    answer = call(self._connected())
                except ConnectionError as error:
                    if isinstance(error, AuthenticationError | BusyLoadingError) or "Timeout" in str(error):
                        raise
                    answer = call(self._connected())
        except StoreMisconfigured:
            raise
        except StoreUnavailable as error:
            if error.code in ("timeout", "connection", "LOADING"):
                self._breaker.failed(error, time.monotonic() - started)
            raise
        self._breaker.succeeded()
        return answer

    @contextmanager
    def replies(self, client: Any, name: str) -> Iterator[Replies]:
        """Give a connection to the node that has `name`, on which several commands are asked before the first reply is
        read. Only inside of a `call`.

        Raises:
            ConnectionError, TimeoutError: of redis-py, whatever broke.
        """
        node = client.get_redis_connection(client.get_node_from_key(name)) if self._is_cluster else client
        pool = node.connection_pool
        connection = pool.get_connection()
        replies = Replies(connection)
        whole = False
        try:
            yield replies
            whole = replies.none_open
        except TimeoutError:
            raise
        except OSError as error:
            kind = TimeoutError if isinstance(error, socket.timeout) else ConnectionError
            raise kind(f"{type(error).__name__}: {error}") from error
        finally:
            if not whole:
                connection.disconnect()  # replies are under way that nobody will read
            pool.release(connection)

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()

    def ping(self) -> None:
        """Ask whether the server answers; the breaker is neither asked nor told.

        Raises:
            StoreMisconfigured, StoreUnavailable: it does not.
        """
        with _typed("reached"):
            self._connected().ping()

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = self._new_client()
            return self._client

    def _new_client(self) -> Any:
        options: dict[str, Any] = {
            "protocol": 2,
            "driver_info": None,
            "socket_timeout": SOCKET_TIMEOUT_S,
            "socket_connect_timeout": SOCKET_TIMEOUT_S,
            "socket_read_size": PIECE_BYTES,
            "retry": Retry(NoBackoff(), 0),  # the one retry is `call`'s
        }
        if self._url.startswith("rediss:"):
            options["redis_connect_func"] = _on_encrypted
        return (RedisCluster if self._is_cluster else redis.Redis).from_url(self._url, **options)


class Replies:
    """Commands sent ahead, and their replies read into memory that is given, neither copied nor read twice. That takes
    the connection's socket; the reply's frame is plain RESP.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._n_open = 0

    @property
    def none_open(self) -> bool:
        """Whether every reply has been read."""
        return self._n_open == 0

    def ask(self, *command: str | int) -> None:
        """Send a command."""
        self._connection.send_command(*command)
        self._n_open += 1

    def receive(self, into: memoryview, deadline: float) -> bool:
        """Read the next reply, a string, into memory of its length; say whether there is one.

        Args:
            deadline: on the clock of `time.monotonic`.

        Raises:
            AdapterRejected: it is longer or shorter.
            OSError: the connection broke, or time is up.
        """
        sock: socket.socket = self._connection._sock
        frame = b""
        while not frame.endswith(b"\r\n"):
            frame += _some(sock, max(1, 4 - len(frame)), deadline)  # the shortest there is, `$0`, has four bytes
            if len(frame) > 200:
                raise ConnectionError("the reply is not one of Redis")
        if frame[:1] == b"-":
            raise self._connection._parser.parse_error(frame[1:-2].decode("utf-8", "replace"))
        if frame[:1] != b"$" or not frame[1:-2].isdigit():
            raise ConnectionError("the reply is not one of Redis")
        n_bytes = int(frame[1:-2])
        if n_bytes == 0:
            return False
        if n_bytes != len(into):
            raise AdapterRejected("size", f"a piece of {n_bytes} bytes, where the head says {len(into)}")
        place = 0
        while place < n_bytes:
            check_time(deadline)
            n_read = sock.recv_into(into[place:])
            if n_read == 0:
                raise ConnectionError("the server closed the connection")
            place += n_read
        end = _some(sock, 2, deadline)
        while len(end) < 2:
            end += _some(sock, 1, deadline)
        if end != b"\r\n":
            raise ConnectionError("the reply is not one of Redis")
        self._n_open -= 1
        return True


def check_time(deadline: float) -> None:
    """Go on only before the deadline, on the clock of `time.monotonic`.

    Raises:
        TimeoutError: of redis-py, it has passed.
    """
    if time.monotonic() > deadline:
        raise TimeoutError("it is slower than training would be")


def _checked_url(url: str) -> tuple[str, bool]:
    """Return the URL without `cluster=true`, and whether it was there, if a connection can be made of it."""
    try:
        url, is_cluster = _without_cluster(url)
        redis.ConnectionPool.from_url(url).make_connection()  # connects with its first command
    except (TypeError, ValueError, RedisError):
        raise StoreMisconfigured(
            "the URL of Redis cannot be used",
            remedy="Give redis://user:password@host:port/0, with / # ? @ and % of a password written as %2F and so on.",
        ) from None  # what was raised may tell a part of the password
    return url, is_cluster


def _on_encrypted(connection: Any) -> None:
    """Have a first answer read: before it the server sends TLS tickets, which the pool takes for a stray answer."""
    connection.on_connect()
    connection.send_command("PING")
    connection.read_response()


def _some(sock: socket.socket, at_most: int, deadline: float) -> bytes:
    check_time(deadline)
    some = sock.recv(at_most)
    if not some:
        raise ConnectionError("the server closed the connection")
    return some


@contextmanager
def _typed(how: str) -> Iterator[None]:
    """Turn what redis-py raises into what a store raises."""
    try:
        yield
    except (AuthenticationError, AuthorizationError, NoPermissionError) as error:
        code = (
            "NOPERM" if isinstance(error, NoPermissionError) else "WRONGPASS" if "invalid" in str(error) else "NOAUTH"
        )
        raise StoreMisconfigured(f"Redis refuses us ({error})", remedy=_HINTS[code], code=code) from error
    except TimeoutError as error:
        raise StoreUnavailable("Redis does not answer in time", code="timeout") from error
    except BusyLoadingError as error:
        raise StoreUnavailable("Redis is still loading its data", code="LOADING") from error
    except ConnectionError as error:
        raise StoreUnavailable(f"Redis cannot be reached ({_brief(error)})", code="connection") from error
    except ReadOnlyError as error:
        raise StoreUnavailable("Redis is a read-only replica", code="READONLY") from error
    except OutOfMemoryError as error:
        raise StoreUnavailable("Redis is out of memory", code="OOM") from error
    except ResponseError as error:
        code = next((code for code in ("MISCONF", "OOM", "READONLY", "LOADING") if code in str(error)), "error")
        raise StoreUnavailable(f"the adapter was not {how}: Redis says {_brief(error)}", code=code) from error
    except RedisClusterException as error:
        raise StoreUnavailable(f"the Redis cluster cannot be reached ({_brief(error)})", code="connection") from error
    except RedisError as error:
        raise StoreUnavailable(f"the adapter was not {how}: {_brief(error)}") from error


def _brief(error: Exception) -> str:
    return str(error).split("\n", 1)[0][:160]


def _without_cluster(url: str) -> tuple[str, bool]:
    """Take `cluster=true` out of a URL; say whether it was there."""
    parts = urlsplit(url)
    query = parse_qsl(parts.query)
    is_cluster = any(name == "cluster" and value.lower() in ("1", "true", "yes") for name, value in query)
    if not is_cluster:
        return url, False
    rest = urlencode([(name, value) for name, value in query if name != "cluster"])
    return urlunsplit(parts._replace(query=rest)), True
