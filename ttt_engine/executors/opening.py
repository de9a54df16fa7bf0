"""From a URL to an executor. Connects to nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from ttt_engine.errors import ExecutorUnavailable
from ttt_engine.executors.executor import Executor
from ttt_engine.executors.in_process import InProcessExecutor
from ttt_engine.executors.processes import ProcessesExecutor

IN_PROCESS = "in-process"
PROCESSES = "processes"
_KNOWN = "Give in-process, processes, ray://local, ray://auto or ray://host:10001"
_OPTIONS: dict[str, Callable[[str], float]] = {
    "gpus": float,
    "cpus": float,
    "workers": int,
    "adapters": int,
    "retries": int,
    "start_within_s": float,
    "idle_s": float,
}

_OF_PROCESSES = ("workers", "adapters", "retries")


def open_executor(url: str = IN_PROCESS) -> Executor[Any, Any]:
    """Return the executor that a URL names.

    Args:
        url: `in-process`; `processes` (beside this one, a core each; after a `?` most `workers`, `adapters` trained
            together, `retries`; see `ProcessesExecutor`); `ray://local` (a cluster of this machine alone, started and
            ended with the executor), `ray://auto` (the cluster that this machine is a node of) or `ray://host:port` (a
            cluster elsewhere, through its Ray Client port). After a `?`: `gpus` and `cpus` of one worker, most
            `workers`, `adapters` trained together, `retries`, `start_within_s`, `idle_s`; see `RayExecutor`.

    Raises:
        ExecutorUnavailable: there is no such executor or option, or Ray is not installed.
    """
    if url == IN_PROCESS:
        return InProcessExecutor()
    no_executor = ExecutorUnavailable(f"no executor {_shown(url)!r}", remedy=f"{_KNOWN}.")
    try:
        parts = urlsplit(url)
    except ValueError as error:  # such as a bracket that is not closed
        raise no_executor from error
    is_ray = parts.scheme == "ray" and parts.netloc and parts.path in ("", "/")
    if not is_ray and (parts.scheme, parts.netloc, parts.path) != ("", "", PROCESSES):
        raise no_executor
    known = _OPTIONS if is_ray else {name: _OPTIONS[name] for name in _OF_PROCESSES}
    options = {name: _number(name, value, known) for name, value in parse_qsl(parts.query, keep_blank_values=True)}
    if not is_ray:
        return ProcessesExecutor(**options)  # type: ignore[arg-type]  # each checked by `_number`
    try:
        from ttt_engine.executors.ray import RayExecutor
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise ExecutorUnavailable("Ray is not installed", remedy="pip install 'ttt-router[ray]'") from error
    address = parts.netloc if parts.netloc in ("local", "auto") else f"ray://{parts.netloc}"
    return RayExecutor(address, **options)  # type: ignore[arg-type]  # each checked by `_number`


def _number(name: str, value: str, known: Mapping[str, Callable[[str], float]]) -> float:
    if name not in known:
        raise ExecutorUnavailable(f"no option {name[:40]!r}", remedy=f"The options are {', '.join(known)}.")
    try:
        number = known[name](value)
    except ValueError:
        number = -1
    least = 1 if name in ("workers", "adapters") else 0
    if not least <= number < float("inf"):
        raise ExecutorUnavailable(f"{name}={value[:40]!r}", remedy=f"Give a number, {least} or more.")
    return number


def _shown(url: str) -> str:
    return url.rpartition("@")[2][:80]  # without a password, should there be one
