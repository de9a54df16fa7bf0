"""What is here and what is missing: Python, packages, home, disk, ledger, store, keys, workers, device and models.

Each check says what was found and, where something is wrong, what to do. Nothing is made: what a first solve would make
is not there before it. A ledger that is there is opened as ever, so that an older schema is brought up to date.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import re
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from icl_engine.errors import FewShotError, RemoteFailed
from policies.decision import REMOTE, Arm
from router.added_arms import close_arms, make_arms
from router.extras import lacking, remedy_for
from router.parts import store_of
from router.redaction import Redactor
from router.settings import Settings, SettingsError, unknown_variables
from router.values_shown import printable
from ttt_engine.errors import ExecutorUnavailable, StoreMisconfigured, StoreUnavailable
from ttt_engine.stores.signing import SECRET_FILE

if TYPE_CHECKING:
    from ttt_engine.stores import TieredAdapterStore

PACKAGES = (
    "ttt-router", "torch", "transformers", "peft", "safetensors", "blake3", "langgraph", "numpy", "pydantic",
    "sqlalchemy", "alembic",
)  # fmt: skip
_LEAST_FREE_BYTES = 500_000_000
_MADE_LATER = "not there yet: the first solve makes it"
_STYLES = {"ok": "green", "unset": "dim", "warning": "yellow", "failed": "red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    check: str
    state: Literal["ok", "unset", "warning", "failed"]  # unset: works without, and is not there
    found: str
    remedy: str = ""  # what to do; empty where nothing need be


def examine(settings: Settings) -> Iterator[Finding]:
    """Yield the findings one by one; a check that cannot be made is a finding too."""
    checks: Sequence[tuple[str, Callable[[Settings], Finding]]] = (
        ("python", _python),
        ("packages", _packages),
        ("variables", _variables),
        ("home", _home),
        ("disk", _disk),
        ("ledger", _ledger),
        ("store", _store),
        ("service", _service),
        ("executor", _executor),
        ("remote", _remote),
        ("arms", _arms),
        ("device", _device),
        ("model", _model),
    )
    for name, check in checks:
        try:
            yield check(settings)
        except FewShotError as error:
            yield Finding(name, "failed", str(error).split("\n", 1)[0], getattr(error, "remedy", ""))
        except Exception as error:  # a broken installation can break anywhere; the other checks still say something
            yield Finding(name, "failed", f"{type(error).__name__}: {error}", "Install ttt-router again.")


def run_doctor(settings: Settings, console: Console, *, as_json: bool = False) -> int:
    """Print all findings; return the exit code: 0, or 4 where something is failed."""
    findings = []
    for finding in examine(settings):
        findings.append(finding)
        if as_json:
            print(json.dumps(asdict(finding)), flush=True)
    if not as_json:
        console.print(findings_table(findings))
        for finding in findings:
            if finding.remedy:
                line = Text.assemble((f"{finding.check}: ", _STYLES[finding.state]), printable(finding.remedy))
                console.print(line, soft_wrap=not console.is_terminal)
    return 4 if any(finding.state == "failed" for finding in findings) else 0


def findings_table(findings: Sequence[Finding]) -> Table:
    """Return the findings as a table."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        state = Text(finding.state, style=_STYLES[finding.state])
        table.add_row(finding.check, state, Text(printable(finding.found)))
    return table


def _python(settings: Settings) -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", "ok", f"{version}, {sys.executable}")


def _packages(settings: Settings) -> Finding:
    found, missing = [], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if unfit := _unfit():
        remedy = f"Install what is asked for: pip install {' '.join(repr(each.partition(' is ')[0]) for each in unfit)}"
        return Finding("packages", "failed", f"{', '.join(unfit)}; {', '.join(found)}", remedy)
    if missing == ["ttt-router"]:
        return Finding("packages", "ok", f"{', '.join(found)}; ttt-router runs from its source folder")
    if missing:
        remedy = f"Install what is missing: pip install {' '.join(missing)}"
        return Finding("packages", "failed", f"missing: {', '.join(missing)}", remedy)
    return Finding("packages", "ok", ", ".join(found))


def _unfit() -> list[str]:
    """Return what is installed in a version that this project does not work with."""
    from packaging.requirements import Requirement

    unfit = []
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # runs from its source folder
        for needed in map(Requirement, importlib.metadata.requires("ttt-router") or ()):
            if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
                continue
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # what is missing is told of elsewhere
                version = importlib.metadata.version(needed.name)
                if not needed.specifier.contains(version, prereleases=True):
                    unfit.append(f"{needed.name}{needed.specifier} is {version}")
    return unfit


def _variables(settings: Settings) -> Finding:
    unknown = unknown_variables()
    if unknown:
        meant = [f"{name} (did you mean {near}?)" if near else name for name, near in unknown.items()]
        remedy = f"Correct or unset {', '.join(meant)}; `ttt-router config show` lists the settings."
        return Finding("variables", "warning", f"no such setting: {', '.join(unknown)}", remedy)
    return Finding("variables", "ok", "every TTT_ROUTER_* variable is a setting")


def _home(settings: Settings) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=_nearest(settings.home)):
            pass
    except OSError as error:
        remedy = "Make it a folder that may be written, or set TTT_ROUTER_HOME to one."
        return Finding("home", "failed", f"{settings.home}: {error.strerror or error}", remedy)
    return Finding("home", "ok", f"{settings.home}{'' if settings.home.exists() else f', {_MADE_LATER}'}")


def _nearest(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that is there."""
    return next(each for each in (folder, *folder.parents) if each.exists())


def _disk(settings: Settings) -> Finding:
    folder = _nearest(settings.home)
    free = shutil.disk_usage(folder).free
    if free < _LEAST_FREE_BYTES:
        remedy = "Free some space, or set TTT_ROUTER_HOME to a folder on another disk."
        return Finding("disk", "warning", f"{free / 1e6:.0f} MB free for {settings.home}", remedy)
    return Finding("disk", "ok", f"{free / 1e9:.1f} GB free for {settings.home}")


def _ledger(settings: Settings) -> Finding:
    from policies.database import Place
    from policies.ledger import Ledger
    from policies.sqlite import Durability, durability_for

    place = Place.of(settings.ledger_location)
    how: Durability | None
    if place.file is not None and place.mark is not None and not place.file.exists() and not place.mark.exists():
        if not os.access(_nearest(place.file.parent), os.W_OK | os.X_OK):
            return Finding("ledger", "failed", f"{place.shown} cannot be made", "Name a folder that may be written.")
        how, later = durability_for(sqlite3.sqlite_version_info[:3]), f", {_MADE_LATER}"
    else:
        with Ledger.open(settings.ledger_location, files=settings.policy_folder) as ledger:
            how, later = ledger.durability, ""
    kept = (
        "as durable as its server"
        if how is None
        else f"journal {how.journal_mode}, synchronous {how.synchronous}: {how.reason}"
    )
    return Finding("ledger", "ok", f"{_without_password(place.shown)}{later}, {kept}")


def _store(settings: Settings) -> Finding:
    """Look into the store; where there is no secret yet, with one that is thrown away."""
    has_secret = settings.store_secrets is not None or (settings.home / SECRET_FILE).exists()
    with tempfile.TemporaryDirectory() as stand_in:
        opened = store_of(settings if has_secret else settings.model_copy(update={"home": Path(stand_in)}))
        return _store_found(settings, opened)


def _store_found(settings: Settings, store: TieredAdapterStore) -> Finding:
    scheme, _, rest = settings.store_url.partition(":")
    folder = Path(rest) if scheme == "local" and rest else settings.home / "adapters"
    if folder.exists() and not (folder.is_dir() and os.access(folder, os.R_OK | os.W_OK | os.X_OK)):
        return Finding("store", "failed", f"{folder} may not be read and written", "Change its owner or its mode.")
    n_adapters = sum(1 for _ in (folder / settings.tenant).glob("*.adapter")) if folder.exists() else 0
    found = f"{folder}, tenant {settings.tenant}, {n_adapters} adapter{'' if n_adapters == 1 else 's'}"
    if scheme in ("local", "memory"):
        return Finding("store", "ok", found)
    url = _without_password(settings.store_url)
    try:
        return Finding("store", "ok", f"{', '.join(store.check())} at {url}; {found}")
    except StoreMisconfigured as error:
        return Finding("store", "failed", f"{url}: {error}", error.remedy)
    except StoreUnavailable as error:
        remedy = "Start it, or set TTT_ROUTER_STORE_URL; until then adapters are kept in the local folder alone."
        return Finding("store", "warning", f"{url}: {error}; {found}", remedy)
    finally:
        store.close()


def _service(settings: Settings) -> Finding:
    if settings.serve_keys is None and settings.serve_keys_file is None:
        found = "no keys are set; `ttt-router serve` needs --keys or TTT_ROUTER_SERVE_KEYS_FILE"
        return Finding("service", "unset", found)
    if missing := lacking("serve"):
        return Finding("service", "warning", f"{', '.join(missing)} not installed", remedy_for("serve"))
    from router.serve.keys import ApiKeys

    return Finding("service", "ok", f"keys of {', '.join(ApiKeys.of(settings).tenants)}")


def _executor(settings: Settings) -> Finding:
    """Look at what solves tasks; a cluster of this machine alone is not started for that."""
    from router.workers import check_reach
    from ttt_engine.executors import open_executor

    url = _without_password(settings.executor)
    executor = open_executor(settings.executor)
    try:
        check_reach(settings, executor)
        is_local_ray = executor.reach == "machine" and url.startswith("ray")
        found = "Ray, started with the first task" if is_local_ray else executor.check()
        return Finding("executor", "ok", f"{url}: {found}")
    except ExecutorUnavailable as error:
        return Finding("executor", "failed", f"{url}: {error.message}", error.remedy)
    finally:
        executor.close()


def _remote(settings: Settings) -> Finding:
    """Ask the model on a server, where one is set, a task of a few tokens, just as the arm would."""
    if settings.remote_url is None or settings.remote_model is None:
        return Finding("remote", "unset", "no model on a server is set")
    from icl_engine.remote_model import RemoteModel
    from icl_engine.task import Task

    name = settings.remote_model  # and not where it is: that may hold a secret
    model = RemoteModel(
        settings.remote_url,
        settings.remote_model,
        api_key=settings.remote_api_key,
        timeout_s=settings.remote_timeout_s,
    )
    try:
        model.answer(Task.from_pairs([("a", "A"), ("b", "B"), ("c", "C")], "d"))
    except RemoteFailed as error:
        remedy = "See to the server, or correct TTT_ROUTER_REMOTE_URL, _MODEL and _API_KEY; its arm answers in context."
        return Finding("remote", "warning", f"{name}: {error.reason}", remedy)
    finally:
        model.close()
    return Finding("remote", "ok", f"{name} answers")


def _arms(settings: Settings) -> Finding:
    """Make the arms of installed packages that the settings name."""
    names = [name for name in settings.arms if name not in (*Arm, REMOTE)]
    if not names:
        return Finding("arms", "unset", "none from installed packages; TTT_ROUTER_ARMS names those to use")
    try:
        made = make_arms(names, settings, Redactor.of(settings))
    except SettingsError as error:
        return Finding("arms", "failed", f"{error.variable}: {error.message}", error.remedy)
    close_arms(made.values())
    return Finding(
        "arms", "ok", ", ".join(f"{arm.name} for {' and '.join(sorted(arm.kinds))}" for arm in made.values())
    )


def _device(settings: Settings) -> Finding:
    import torch

    if settings.device.startswith("cuda") and not torch.cuda.is_available():
        remedy = "Set TTT_ROUTER_DEVICE to auto or cpu, or install a driver and a torch with CUDA."
        return Finding("device", "failed", f"{settings.device} is asked for; this torch sees no GPU", remedy)
    if torch.cuda.is_available() and settings.device in ("auto", "cuda"):
        found = f"{torch.cuda.get_device_name()} ({torch.cuda.get_device_properties(0).total_memory / 1e9:.0f} GB)"
    else:
        n = torch.get_num_threads()
        found = f"CPU, {n} thread{'s' if n != 1 else ''}" if settings.device in ("auto", "cpu") else settings.device
    return Finding("device", "ok", f"{found}; dtype {settings.dtype}; torch {torch.__version__}")


def _model(settings: Settings) -> Finding:
    from icl_engine.language_model import load_model

    model = load_model(settings.model, device=settings.device, dtype=settings.dtype, grid_form=settings.grid_form)
    name = "embedded" if settings.model is None else settings.model
    return Finding("model", "ok", f"{name}, {model.fingerprint[:12]}, context of {model.context_tokens} tokens")


def _without_password(url: str) -> str:
    """Hide user and password, which may have an @ or a / of their own, and every password among the options."""
    return re.sub(r"([^?&=]*passw[^=&]*=)[^&]*", r"\1***", re.sub(r"://.*@", "://***@", url))
