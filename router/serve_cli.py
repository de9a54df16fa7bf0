"""`ttt-router serve`: the HTTP service. Like the other commands it reads the arguments and calls the library.

All that it says is JSON on stderr, one object a line, also where it does not start.
"""

from __future__ import annotations

import logging
import signal
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal

import typer

from icl_engine.errors import FewShotError
from router.extras import require_extra
from router.settings import Settings, unknown_variables

log = logging.getLogger("ttt_router.serve")

_INTERRUPTED = 130  # as shells have it


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="0: any that is free; jobs are then in memory alone.")
    ] = 8770,
    keys: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With lines tenant=key, instead of TTT_ROUTER_SERVE_KEYS_FILE.")
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
    from router.errors import exit_code
    from router.serve.json_log import log_as_json

    log_as_json(str, log_level)  # until it is known what to mask
    given: dict[str, Any] = {"serve_keys_file": keys, "model": model, "home": home, "executor": executor}
    try:
        require_extra("serve")
        _serve(Settings(**{name: value for name, value in given.items() if value is not None}), host, port, log_level)
    except FewShotError as error:
        log.error("%s", error)
        raise typer.Exit(exit_code(error)) from None
    except KeyboardInterrupt:  # while the model is loaded, say
        log.warning("interrupted: it does not serve")
        raise typer.Exit(_INTERRUPTED) from None
    except SystemExit as ended:  # well, or by uvicorn, which has said why: its code is another thing with us
        raise typer.Exit(1 if ended.code else 0) from None
    except Exception as error:  # a trace on stderr would be no JSON
        log.critical("%s: %s", type(error).__name__, error, exc_info=not isinstance(error, OSError))
        raise typer.Exit(1) from None


def _serve(settings: Settings, host: str, port: int, log_level: str) -> None:
    from policies.ledger import Ledger
    from router.quiet_libraries import log_with_ours
    from router.redaction import Redactor
    from router.serve.app import make_app
    from router.serve.journal import own_folder
    from router.serve.json_log import log_as_json
    from router.serve.keys import ApiKeys
    from router.serve.server import bound, favour_the_loop, forget_what_is_loaded, make_server, run
    from router.serve.service import Service

    known = ApiKeys.of(settings)
    log_as_json(Redactor.of(settings).knowing(known.secrets), log_level)
    signal.signal(signal.SIGTERM, _ended)
    with ExitStack() as held:
        listening = held.enter_context(bound(host, port))  # before what takes long
        ledger = held.enter_context(Ledger.open(settings.ledger_location, files=settings.policy_folder))
        service = Service(settings, ledger, secrets=known.secrets)
        log_as_json(service.redact, log_level)
        for name, meant in unknown_variables().items():
            log.warning("%s is no setting", name, extra={} if meant is None else {"did_you_mean": meant})
        log_with_ours()
        favour_the_loop()
        service.tenants.open_here(known.tenants)
        if port:  # once the model is there: a start that fails leaves no folder
            service.keep_jobs(held.enter_context(own_folder(settings.home / "jobs", port)))
        named = f"[{host}]" if ":" in host else host
        at = f"http://{named}:{listening.getsockname()[1]}"
        listens = partial(log.info, "serves %s at %s  (Ctrl-C stops)", ", ".join(known.tenants), at)
        server = make_server(make_app(service, known), service, listens)
        forget_what_is_loaded()
        with suppress(KeyboardInterrupt):  # which uvicorn raises again once it has stopped
            run(server, listening, service.tenants.open_elsewhere)


def _ended(signal: int, frame: FrameType | None) -> None:
    """Give back what is held, and end well: at once while it starts; uvicorn hands the signal on when all is done."""
    raise SystemExit(0)
