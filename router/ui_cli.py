"""`ttt-router ui`: look at decisions in a browser, on this machine.

Like the other commands it reads the arguments and calls one function; the web libraries load inside it.
"""

from __future__ import annotations

import errno
import functools
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from router.cli_home import Home, ledger_of, settings_at
from router.extras import require_extra
from router.settings import Settings, SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icl_engine.task import Task, Value
    from router.router import Router
    from router.ui.app import RunArm

_PORT = 8765


def ui(
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="0: any that is free. Default: 8765, or if it is taken another."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    solutions: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Tasks with their solutions, to ring wrong cells.")
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Attach no router: nothing can be run.")] = False,
    any_host: Annotated[bool, typer.Option("--any-host", help="Let other machines in. There is no login.")] = False,
    home: Home = None,
) -> None:
    """Show decisions and policies in the browser."""
    require_extra("ui")
    require_loopback(host, any_host=any_host)
    import uvicorn

    from router.granting import so_far
    from router.router import Router
    from router.ui.app import Attached, make_app

    settings = settings_at(home)
    known = None if solutions is None else solutions_in(solutions, settings)
    with ledger_of(settings) as ledger:
        router = None if read_only else Router(settings, ledger=ledger)
        try:
            runs = None if router is None else _runner(router)
            app = make_app(Attached(ledger, runs, known, any_host, functools.partial(so_far, settings, ledger)))
            with listening(host, port) as opened, suppress(KeyboardInterrupt):
                named = f"[{host}]" if ":" in host else host
                at = f"http://{named}:{opened.getsockname()[1]}"
                print(f"Traces of {ledger.location}: {at}  (Ctrl-C stops)", file=sys.stderr, flush=True)
                uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[opened])
        finally:
            if router is not None:
                router.close()


def require_loopback(host: str, *, any_host: bool) -> None:
    """Make sure that only this machine is let in, unless it is asked for otherwise.

    Raises:
        SettingsError: the address is reached from elsewhere.
    """
    from router.ui.guard import is_loopback

    if not any_host and not is_loopback(host):
        remedy = "Listen on 127.0.0.1, or add --any-host: whoever reaches the port then sees every trace."
        raise SettingsError(f"got {host}, which other machines reach", variable="host", remedy=remedy)


def listening(host: str, port: int | None) -> socket.socket:
    """Open the port to listen on; where none is asked for the usual one or, if somebody has it, any that is free.

    Raises:
        SettingsError: it cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        opened = socket.create_server((host, _PORT if port is None else port), family=family)
    except OSError as error:
        if port is None and error.errno == errno.EADDRINUSE:
            return listening(host, 0)
        remedy = "Give another (--port), or 0 for any that is free."
        raise SettingsError(f"{host}:{port}: {error.strerror}", variable="port", remedy=remedy) from None
    # a socket made here names no protocol, so asyncio leaves it, and the body of a page would wait 40 ms for its head
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return opened


def solutions_in(file: Path, settings: Settings) -> dict[str, Sequence[Value | None]]:
    """Return what is right, by the fingerprint of the task, for tasks as a whole and for each query alone.

    Raises:
        TaskRefused: the file cannot be read.
    """
    from icl_engine.loaders import load_tasks

    known: dict[str, Sequence[Value | None]] = {}
    for labelled in load_tasks(file, limits=settings.limits):
        known[labelled.task.fingerprint] = labelled.solutions
        for i, solution in enumerate(labelled.solutions):
            known[labelled.task.for_query(i).fingerprint] = (solution,)
    return known


def _runner(router: Router) -> RunArm:
    def run(task: Task, arm: str, seed: int) -> str:
        trace_id = router.solve(task, arm=arm, seed=seed).trace_id
        router.flush()  # traces are written behind the answer, and the page shows this one next
        return trace_id

    return run
