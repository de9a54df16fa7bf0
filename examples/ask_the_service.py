"""Start the HTTP service, ask it with the client, say what came of it, and stop it."""

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from router import Task
from router.client import Client, ServiceError

task = Task.from_pairs(
    [
        ([0, 2, 2, 0, 0, 0, 0], [0, 0, 2, 2, 0, 0, 0]),
        ([3, 3, 3, 0, 0, 0, 0], [0, 3, 3, 3, 0, 0, 0]),
        ([0, 0, 0, 5, 0, 0, 0], [0, 0, 0, 0, 5, 0, 0]),
    ],
    [0, 7, 7, 0, 0, 0, 0],
    id="shift",
)

with socket.socket() as free:  # any port that nobody uses
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]

with tempfile.TemporaryDirectory() as folder:
    key, keys = secrets.token_urlsafe(32), Path(folder) / "keys"
    keys.touch(mode=0o600)  # only we may read it
    keys.write_text(f"default={key}\n")
    serve = [sys.executable, "-m", "router", "serve", "--port", str(port), "--keys", str(keys)]
    home = {"TTT_ROUTER_HOME": str(Path(folder) / "home")}  # nothing of this is to be learned from
    server = subprocess.Popen([*serve, "--log-level", "warning"], env={**os.environ, **home})
    try:
        with Client(f"http://127.0.0.1:{port}", key, retries=0) as client:
            while True:  # the model is loaded first
                try:
                    print("decides for", client.decide(task).arm)
                    break
                except ServiceError as error:
                    if server.poll() is not None:
                        sys.exit("the server has ended; it says why above")
                    if error.code != "unreachable":
                        raise
                    time.sleep(0.2)
            solution = client.solve(task, deadline_s=60, progress=lambda step, done, of: print(step, done, of))
            print(solution)
            client.feedback(solution.trace_id, answer=[[0, 0, 7, 7, 0, 0, 0]])
            print(client.explain(solution.trace_id))
    finally:
        server.terminate()  # it finishes what it has begun; one that has ended hears nothing
        server.wait(60)
