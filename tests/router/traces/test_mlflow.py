"""A real MLflow server takes our traces and gives the same tree back.

It runs in an environment of its own, as it does for anybody else: what it depends on and what we pin do not agree.
`make test` makes that; where it was not made the test is skipped.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from policies.fixed import AlwaysArm
from policies.ledger import Ledger
from policies.records import OutcomeRow
from router.traces import push, read_trace, spans_of
from tests.router.traces.fakes import ADAPTER, GROUNDS, keep

PYTHON = Path(__file__).resolve().parents[3] / ".venv-mlflow" / "bin" / "python"

pytestmark = [
    pytest.mark.skipif(not PYTHON.exists(), reason="there is no MLflow here; `make mlflow` installs it"),
    pytest.mark.timeout(600),
]

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
STARTED_WITHIN_S = 240
READ_BACK = """
import json, sys, warnings
warnings.simplefilter("ignore")
from mlflow.tracking import MlflowClient
traces = MlflowClient(sys.argv[1]).search_traces(["0"])
print(json.dumps([[
    {"name": span.name, "id": span.span_id, "parent": span.parent_id, "attributes": {
        name: span.attributes[name] for name in ("router.arm", "router.propensity") if name in span.attributes
    }} for span in trace.data.spans] for trace in traces]))
"""


def quiet() -> dict[str, str]:
    return {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "PYTHONWARNINGS": "ignore"}


@pytest.fixture
def mlflow(tmp_path: Path) -> Iterator[str]:
    """A server on SQLite, on a port that nobody else has."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [str(PYTHON), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/mlflow.db",
        "--artifacts-destination",
        str(tmp_path / "a"),
    ]
    with (tmp_path / "mlflow.log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=quiet(), cwd=tmp_path, start_new_session=True)
        try:
            _wait_for(f"{url}/health", server, tmp_path / "mlflow.log")
            yield url
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(60)


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + STARTED_WITHIN_S
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail(f"MLflow did not start: {log.read_text()[-2000:]}")


def test_mlflow_gives_back_the_tree_that_was_pushed(ledger: Ledger, mlflow: str) -> None:
    keep(ledger, TRACE_ID, policy=AlwaysArm("ttt"), adapter=ADAPTER, grounds=GROUNDS)
    ledger.add_outcome(OutcomeRow(TRACE_ID, "user", "exact", 1.0))
    spans = spans_of(read_trace(ledger, TRACE_ID))

    assert push([spans], mlflow, version="1", headers={"x-mlflow-experiment-id": "0"}, timeout_s=120) == 1

    done = subprocess.run(
        [str(PYTHON), "-c", READ_BACK, mlflow], env=quiet(), capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    (read,) = json.loads(done.stdout.splitlines()[-1])
    assert {(span["name"], span["id"], span["parent"]) for span in read} == {
        (span.name, span.span_id, span.parent_id) for span in spans
    }
    (decision,) = (span for span in read if span["name"] == "route_decision")
    assert decision["attributes"] == {"router.arm": "ttt", "router.propensity": 1.0}
