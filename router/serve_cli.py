"""`ttt-router serve`: the HTTP service. Like the other commands it reads the arguments and calls the library."""

from __future__ import annotations

import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal

import typer

from router.extras import require_extra
from router.settings import Settings


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="0: any that is free; jobs are then in memory alone.")
    ] = 8770,
    keys: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Of tenant=key lines, instead of TTT_ROUTER_SERVE_KEYS_FILE.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Folder or hub id of a causal language model.")] = None,
    home: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of ledger, adapters, traces, jobs.")] = None,
    executor: Annotated[
        str | None, typer.Option(metavar="URL", help="Who solves: in-process, or ray://... as in TTT_ROUTER_EXECUTOR.")
    ] = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], typer.Option(help="Of our own log; info has a line a request.")
    ] = "info",
) -> None:
    """Answer tasks over HTTP, for everybody who has a key."""
    require_extra("serve")
    from policies.ledger import Ledger
    from router.serve.app import make_app
    from router.serve.journal import own_folder
    from router.serve.keys import ApiKeys
    from router.serve.server import favour_the_loop, forget_what_is_loaded, log_as_json, make_server, run
    from router.serve.service import Service

    given: dict[str, Any] = {"serve_keys_file": keys, "model": model, "home": home, "executor": executor}
    settings = Settings(**{name: value for name, value in given.items() if value is not None})
    known = ApiKeys.of(settings)
    signal.signal(signal.SIGTERM, _ended)
    with ExitStack() as held:
        ledger = held.enter_context(Ledger.open(settings.ledger_location, files=settings.policy_folder))
        folder = held.enter_context(own_folder(settings.home / "jobs", port)) if port else None
        service = Service(settings, ledger, jobs_folder=folder, secrets=known.secrets)
        log_as_json(service.redact, log_level)
        favour_the_loop()
        service.tenants.open_here(known.tenants)
        server, listening = make_server(make_app(service, known), service, host=host, port=port)
        forget_what_is_loaded()
        named = f"[{host}]" if ":" in host else host
        at = f"http://{named}:{listening.getsockname()[1]}"
        print(f"ttt-router serves {', '.join(known.tenants)} at {at}  (Ctrl-C stops)", file=sys.stderr, flush=True)
        run(server, listening, service.tenants.open_elsewhere)
    if not server.started:
        raise typer.Exit(1)


def _ended(signal: int, frame: FrameType | None) -> None:
    """Give back what is held, and end well: at once while it starts; uvicorn hands the signal on when all is done."""
    raise SystemExit(0)
