"""A process that is no node of its cluster, when the head of that is lost and started anew."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.ray_cluster import ROOT, head
from tests.redis_server import free_port

pytest.importorskip("ray")

FROM_WITHOUT = """
import functools, pathlib, sys
from tests.ttt_engine.executors.workers import TellingWorker, task_of
from ttt_engine.errors import ExecutorUnavailable
from ttt_engine.executors import Batch, open_executor

executor = open_executor(sys.argv[1])
executor.start(functools.partial(TellingWorker, pathlib.Path(sys.argv[2])))
for line in sys.stdin:
    try:
        said = executor.run([Batch((task_of(1),), "say")])[0][0][1]
    except ExecutorUnavailable:
        said = "unavailable"
    print(said, flush=True)
executor.close()
"""


def test_a_cluster_whose_head_was_lost_and_is_back_is_connected_to_anew(tmp_path: Path) -> None:
    port = free_port()

    def ask() -> str:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    def ask_until_answered() -> str:
        for _ in range(5):  # on a busy machine Ray gives up on its own server for a client, and starts another
            if (said := ask()) != "unavailable":
                break
            time.sleep(1.0)
        return said

    command = [sys.executable, "-c", FROM_WITHOUT, f"ray://127.0.0.1:{port}?workers=1&cpus=0.5", str(tmp_path)]
    grace = {**os.environ, "RAY_CLIENT_RECONNECT_GRACE_PERIOD": "1"}
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(
            command, cwd=ROOT, env=grace, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
        ) as process,
    ):
        try:
            before = ask()
            with head(port):
                first = ask_until_answered()
            lost = ask()
            with head(port):
                again = ask_until_answered()
        finally:
            process.kill()

    assert (before, first, lost, again) == ("unavailable", "1", "unavailable", "1"), (tmp_path / "log").read_text()
