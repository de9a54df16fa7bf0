"""The HTTP service with a scripted model, in a process of its own: all of it but the time that a model takes."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icl_engine.language_model import Generation
from icl_engine.scripted_model import ScriptedModel
from icl_engine.task import Task, Value
from policies.ledger import Ledger
from router.serve.app import make_app
from router.serve.json_log import log_as_json
from router.serve.keys import ApiKeys
from router.serve.server import bound, favour_the_loop, forget_what_is_loaded, make_server
from router.serve.service import Service
from router.settings import Settings

KEY = "key-of-the-benchmark-0123456789"
ROOT = Path(__file__).resolve().parents[2]


class SlowModel(ScriptedModel):
    """Answers in capitals, after a while: what an arm takes, without what it computes."""

    __slots__ = ("arm_s",)

    def __init__(self, arm_s: float) -> None:
        super().__init__(_shouted)
        self.arm_s = arm_s

    def generate(self, tasks: Sequence[Task], **options: Any) -> list[Generation]:
        """Answer each task; together they take as long as one."""
        if self.arm_s:
            time.sleep(self.arm_s)
        generations = super().generate(tasks, **options)
        self.tasks_seen.clear()  # a server that runs for days must not remember them
        return generations

    def score(self, answered: Sequence[tuple[Task, Value]], **options: Any) -> Any:
        """Score answers, and forget them."""
        scores = super().score(answered, **options)
        self.tasks_seen.clear()
        return scores


@dataclass
class ServerProcess:
    """The server, started and killed by its process id."""

    home: Path
    port: int
    arm_s: float = 0.0
    settings: tuple[str, ...] = ()  # name=value
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def start(self, within_s: float = 60.0) -> float:
        """Start it; return the seconds until it was healthy."""
        began = time.monotonic()
        arguments = ["--arm-s", str(self.arm_s), str(self.home), str(self.port), *self.settings]
        command = [sys.executable, "-m", "benchmarks.serve.scripted_server", *arguments]
        with (self.home / "server.log").open("ab") as log:
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            # a session of its own: Ctrl-C is for whoever measures, who stops it then
            self.process = subprocess.Popen(command, cwd=ROOT, stderr=log, env=environment, start_new_session=True)
        while not self.is_healthy():
            if self.process.poll() is not None or time.monotonic() - began > within_s:
                self.kill()
                raise RuntimeError(f"the server is not there: see {self.home / 'server.log'}")
            time.sleep(0.01)
        return time.monotonic() - began

    def kill(self) -> None:
        """Kill it, with no chance to do anything."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """Stop it with grace; return its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def cpu_s(self) -> float:
        """Return the processor time that it has used: it hangs less on what else the machine does than the clock."""
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_bytes(self) -> int:
        """Return the memory that it has resident."""
        assert self.process is not None
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))

    def is_healthy(self) -> bool:
        """Tell whether it answers."""
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=1) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("home", type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("--arm-s", type=float, default=0.0)
    parser.add_argument("settings", nargs="*", help="name=value")
    given = parser.parse_args()
    named: dict[str, Any] = dict(each.split("=", 1) for each in given.settings)
    settings = Settings(home=given.home, **named)
    keys = ApiKeys([("bench", KEY)])
    with Ledger.open(settings.ledger_location) as ledger:
        service = Service(settings, ledger, model=SlowModel(given.arm_s), secrets=keys.secrets)
        service.keep_jobs(settings.home / "jobs")
        log_as_json(service.redact, "warning")
        favour_the_loop()
        service.tenants.open()
        server, listening = make_server(make_app(service, keys), service), bound("127.0.0.1", given.port)
        forget_what_is_loaded()
        server.run(sockets=[listening])


def _shouted(task: Task) -> Value:
    assert isinstance(task.query, str)
    return task.query.upper()


if __name__ == "__main__":
    main()
