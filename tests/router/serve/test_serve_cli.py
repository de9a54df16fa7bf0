"""`ttt-router serve` as it is run: all it says is JSON, and why it does not start is told by line and exit code."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from router.serve.server import bound
from router.settings import PREFIX, SettingsError
from tests.models import save_tiny_llama
from tests.redis_server import free_port
from tests.router.serve.serving import LAB, until
from tests.router.serve.test_two_servers import ROOT, SERVE, is_healthy


@contextmanager
def started(home: Path, *arguments: str, first: str = "", **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a process of its own, whose stderr is the file `said` in its home; `first` is run before it."""
    others = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
    environment = {**others, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment |= {f"{PREFIX}{name.upper()}": value for name, value in variables.items()}
    command = [sys.executable, "-c", f"{first}\n{SERVE}", "--home", str(home), *arguments]
    with (home / "said").open("wb") as said:
        server = subprocess.Popen(command, cwd=home, env=environment, stderr=said)
    try:
        yield server
    finally:
        server.kill()
        server.wait(20)


def lines(home: Path) -> list[dict[str, Any]]:
    """What it has said; raises where that is not JSON."""
    return [json.loads(line) for line in (home / "said").read_text().splitlines()]


def test_from_its_start_to_its_end_all_it_says_is_json_and_a_misspelt_variable_is_among_it(tmp_path: Path) -> None:
    port, model = free_port(), save_tiny_llama(tmp_path / "model")
    kubernetes = {"service_host": "10.0.0.1", "port": "tcp://10.0.0.1:8770", "port_8770_tcp": "tcp://10.0.0.1:8770"}
    given = {"serve_keys": f"lab={LAB}", "model": str(model), "device": "cpu", "modle": "x", **kubernetes}
    with started(tmp_path, "--port", str(port), **given) as server:
        until(partial(is_healthy, f"http://127.0.0.1:{port}"), "it does not start", within_s=120)
        server.terminate()
        code = server.wait(30)
    said = lines(tmp_path)
    misspelt = [line for line in said if "is no setting" in line["said"]]

    assert code == 0  # in good order
    assert [(line["said"], line["did_you_mean"]) for line in misspelt] == [
        ("TTT_ROUTER_MODLE is no setting", "TTT_ROUTER_MODEL")
    ]
    whats = [line["said"] for line in said]
    serves = next(i for i, what in enumerate(whats) if f"serves lab at http://127.0.0.1:{port}" in what)
    assert serves > whats.index("Application startup complete.")
    assert serves < whats.index("stopping: 0 tasks at work, 0 waiting, nothing is left to do") < whats.index("stopped")
    assert LAB not in (tmp_path / "said").read_text()


@pytest.mark.parametrize("fault", ["the port is taken", "no key", "no such address"])
def test_where_it_does_not_start_the_setting_is_named_in_json_and_the_exit_code_is_that_of_usage(
    tmp_path: Path, fault: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        host = "203.0.113.1" if fault == "no such address" else "127.0.0.1"
        keys = {} if fault == "no key" else {"serve_keys": f"lab={LAB}"}
        with started(tmp_path, "--host", host, "--port", port, model=str(tmp_path / "none"), **keys) as server:
            code = server.wait(60)
    (line,) = lines(tmp_path)

    assert (code, line["level"]) == (2, "error")
    assert line["said"].startswith("serve_keys_file:" if fault == "no key" else f"port: {host}:{port}: ")
    assert fault != "the port is taken" or "Address already in use. Give another" in line["said"]


def test_a_model_that_cannot_be_loaded_is_told_in_json_with_the_exit_code_of_a_dependency(tmp_path: Path) -> None:
    given = {"serve_keys": f"lab={LAB}", "model": str(tmp_path / "none"), "device": "cpu"}
    with started(tmp_path, "--port", str(free_port()), **given) as server:
        code = server.wait(60)
    last = lines(tmp_path)[-1]

    assert (code, last["level"]) == (4, "error")
    assert last["said"].startswith(
        "cannot load the model '…/none': there is no such folder. Give"
    )  # the home is masked
    assert not (tmp_path / "jobs").exists()


def test_of_two_that_start_at_the_same_time_one_has_the_port_from_the_first_moment() -> None:
    with bound("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(SettingsError, match="Address already in use"):
            bound("127.0.0.1", port)


FAILS_TO_BEGIN = """
from router.serve.service import Service

def fails(self):
    raise RuntimeError("nobody foresaw this")

Service.begin = fails
"""
IS_INTERRUPTED = """
import os, signal, time
from router.serve.tenants import Tenants

signal.signal(signal.SIGINT, signal.default_int_handler)  # a program in the background may have been told to ignore it


def is_interrupted(self, known):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(20)

Tenants.open_here = is_interrupted
"""


@pytest.mark.parametrize(
    ("first", "code", "level", "said"),
    [
        (FAILS_TO_BEGIN, 1, "error", "nobody foresaw this"),
        (IS_INTERRUPTED, 130, "warning", "interrupted: it does not serve"),
    ],
    ids=["a start that fails", "Ctrl-C while the model is loaded"],
)
def test_what_ends_it_before_it_serves_is_told_in_json_with_a_code_of_its_own(
    tmp_path: Path, first: str, code: int, level: str, said: str
) -> None:
    given = {"serve_keys": f"lab={LAB}", "model": str(save_tiny_llama(tmp_path / "model")), "device": "cpu"}
    with started(tmp_path, "--port", "0", first=first, **given) as server:
        ended = server.wait(60)
    told = lines(tmp_path)

    assert ended == code
    assert any(line["level"] == level and said in json.dumps(line) for line in told)


def test_warnings_and_what_ends_a_thread_are_lines_of_the_log() -> None:
    code = """
import threading, warnings
from router.serve.json_log import log_as_json

def ends():
    raise RuntimeError("nobody foresaw this")

log_as_json(lambda said: said.replace("secret", "..."), "warning")
warnings.warn("this is old, and secret")
thread = threading.Thread(target=ends, name="solve_0")
thread.start()
thread.join()
"""
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    warned, ended = map(json.loads, ran.stderr.splitlines())

    assert (warned["logger"], "this is old, and ..." in warned["said"]) == ("py.warnings", True)
    assert (ended["said"], "nobody foresaw this" in ended["trace"]) == ("a thread ended: solve_0", True)
