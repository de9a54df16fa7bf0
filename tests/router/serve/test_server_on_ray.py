"""The server as it is started, with its workers on a Ray cluster that is its own: what it says while that starts, and
what is left when it is told to stop.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from router.settings import PREFIX
from tests.models import save_tiny_llama
from tests.redis_server import free_port
from tests.router.serve.serving import LAB, text, until

pytest.importorskip("ray")

ROOT = Path(__file__).resolve().parents[3]
SERVE = "import sys; from router.cli import main; sys.exit(main(['serve', *sys.argv[1:]]))"


def test_a_server_is_not_ready_until_ray_has_started_and_ends_with_nothing_left_when_it_is_told(tmp_path: Path) -> None:
    port, stopped = free_port(), 0.0
    settings = {"model": str(save_tiny_llama(tmp_path / "model")), "device": "cpu", "serve_keys": f"lab={LAB}"}
    others = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
    environment = {**others, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}  # which Ray's processes have, too
    environment |= {f"{PREFIX}{name.upper()}": value for name, value in settings.items()}
    options = ["--port", str(port), "--home", str(tmp_path / "home"), "--executor", "ray://local?workers=1"]
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen([sys.executable, "-c", SERVE, *options], cwd=tmp_path, env=environment, stderr=log) as server,
        httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {LAB}"}, timeout=120
        ) as client,
    ):
        try:
            until(lambda: answered(client, "/ready") is not None, "it does not listen", within_s=120)
            first = client.get("/ready")
            solved = client.post("/v1/solve", json={"tasks": [text()], "arm": "icl"}).json()  # waits for a worker
            then = client.get("/ready")
            of_ray = processes_of(tmp_path) - {server.pid}
            began = time.monotonic()
            server.send_signal(signal.SIGTERM)
            code = server.wait(60)
            stopped = time.monotonic() - began
            until(lambda: not processes_of(tmp_path), "processes of Ray are left", within_s=60)
        finally:
            server.kill()

    told = (tmp_path / "log").read_text()
    assert first.status_code == 503, told
    assert "connecting to Ray" in first.text
    assert (then.status_code, then.json()["status"]) == (200, "ok"), told
    assert "solution" in solved["results"][0], told
    assert len(of_ray) >= 3  # head, raylet, worker
    assert (code, stopped < 20) == (0, True), told
    assert "SIGTERM received" not in told  # as Ray has it where it takes it for a crash


def answered(client: httpx.Client, path: str) -> httpx.Response | None:
    try:
        return client.get(path)
    except httpx.TransportError:
        return None


def processes_of(home: Path) -> set[int]:
    """Return those that have this home folder and are not over."""
    found = set()
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and f"HOME={home}\0".encode() in (process / "environ").read_bytes():
                found.add(int(process.name))
        except OSError:  # it has just ended
            continue
    return found
