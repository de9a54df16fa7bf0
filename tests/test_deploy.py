"""What is in deploy/ holds together as far as that can be seen without containers: it is well-formed, names settings,
extras, files and commands that exist, and what its containers would run is run here.
"""

from __future__ import annotations

import http.server
import json
import os
import re
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from router.serve.gate import OPEN
from router.settings import PREFIX, Settings
from tests.redis_server import free_port, installed
from ttt_engine.executors import open_executor

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

TEXT = {"type": "string"}
TEXTS = {"type": "array", "items": TEXT}
SERVICE = {  # as much of the Compose specification as we use
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "build": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "context": TEXT,
                "dockerfile": TEXT,
                "args": {"type": "object", "additionalProperties": TEXT},
            },
        },
        "image": TEXT,
        "command": TEXTS,
        "environment": {"type": "object", "additionalProperties": TEXT},
        "ports": {"type": "array", "items": {"type": "string", "pattern": r"^127\.0\.0\.1:\d+:\d+$"}},
        "volumes": {"type": "array", "items": {"type": "string", "pattern": "^[a-z]+:/"}},
        "depends_on": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "required": ["condition"],
                "properties": {"condition": {"enum": ["service_healthy"]}},
            },
        },
        "healthcheck": {
            "type": "object",
            "required": ["test"],
            "properties": {
                "test": {**TEXTS, "minItems": 2},
                "interval": {"type": "string", "pattern": r"^\d+s$"},
                "timeout": {"type": "string", "pattern": r"^\d+s$"},
                "retries": {"type": "integer"},
            },
        },
        "restart": {"enum": ["unless-stopped"]},
        "stop_grace_period": {"type": "string", "pattern": r"^\d+s$"},
        "deploy": {"type": "object", "required": ["resources"]},
    },
}
COMPOSE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["services"],
    "properties": {
        "name": TEXT,
        "services": {"type": "object", "additionalProperties": SERVICE},
        "volumes": {"type": "object"},
    },
}
POD = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "required": ["containers", "enableServiceLinks"],
            "properties": {
                "enableServiceLinks": {"const": False},  # what they name would look like settings
                "containers": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "required": ["name", "image", "resources"],
                        "properties": {"command": TEXTS, "volumeMounts": {"type": "array"}},
                    },
                },
            },
        }
    },
}
PARAMETERS = {"type": "object", "additionalProperties": TEXT}  # KubeRay takes nothing but texts
RAY_CLUSTER = {  # as much of ray.io/v1 as we use
    "type": "object",
    "required": ["headGroupSpec", "workerGroupSpecs", "rayVersion", "authOptions"],
    "properties": {
        "rayVersion": TEXT,
        "authOptions": {"properties": {"mode": {"enum": ["token"]}}, "required": ["mode"]},
        "enableInTreeAutoscaling": {"const": True},
        "headGroupSpec": {
            "type": "object",
            "required": ["rayStartParams", "template"],
            "properties": {"rayStartParams": PARAMETERS, "template": POD},
        },
        "workerGroupSpecs": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"],
                "properties": {"rayStartParams": PARAMETERS, "template": POD, "replicas": {"type": "integer"}},
            },
        },
    },
}


def compose(name: str = "compose.yaml") -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


def kuberay(kind: str) -> Any:
    return next(each for each in yaml.safe_load_all((DEPLOY / "kuberay.yaml").read_text()) if each["kind"] == kind)


def server_pod() -> Any:
    return kuberay("Deployment")["spec"]["template"]["spec"]


def containers() -> list[Any]:
    """Of all pods."""
    spec = kuberay("RayCluster")["spec"]
    ray = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    pods = [*(group["template"]["spec"] for group in ray), server_pod()]
    return [container for pod in pods for container in pod["containers"]]


@pytest.mark.parametrize("name", ["compose.yaml", "compose.cuda.yaml"])
def test_a_compose_file_is_of_the_form_that_compose_reads(name: str) -> None:
    jsonschema.validate(compose(name), COMPOSE)


def test_a_compose_file_uses_no_volume_and_waits_for_no_service_that_is_not_there() -> None:
    whole = compose()
    services = whole["services"]
    used = {volume.partition(":")[0] for each in services.values() for volume in each.get("volumes", ())}

    assert used == set(whole["volumes"])
    assert {name for each in services.values() for name in each.get("depends_on", ())} <= services.keys()
    assert compose("compose.cuda.yaml")["services"].keys() <= services.keys()


def test_the_compose_file_is_for_one_server_since_its_port_is_one() -> None:
    server = compose()["services"]["server"]
    said = "".join(re.findall("^#.*\n", (DEPLOY / "compose.yaml").read_text(), re.MULTILINE))

    assert server["ports"] == ["127.0.0.1:8770:8770"]
    assert re.findall(r"compose .*--scale", said) == []


def test_every_secret_of_the_compose_file_is_asked_for_and_given_no_value() -> None:
    asked = set(re.findall(r"\$\{(\w+):\?", (DEPLOY / "compose.yaml").read_text()))
    lines = [line for line in (DEPLOY / "example.env").read_text().splitlines() if line and line[0] != "#"]

    assert [line.partition("=")[2] for line in lines] == [""] * len(lines)
    assert {line.partition("=")[0] for line in lines} == asked
    assert "${" not in re.sub(r"\$\{\w+:\?[^}]*\}", "", (DEPLOY / "compose.yaml").read_text())


def test_every_setting_is_one() -> None:
    pod = server_pod()["containers"][0]
    named = {*compose()["services"]["server"]["environment"], *(each["name"] for each in pod["env"])}
    named |= set(re.findall(rf"{PREFIX}\w+", (DEPLOY / "kuberay.yaml").read_text() + DOCKERFILE))
    ours = {name.removeprefix(PREFIX).lower() for name in named if name.startswith(PREFIX)}

    assert ours >= {"ledger_url", "store_url", "store_secrets", "executor", "device", "home"}
    assert ours <= Settings.model_fields.keys()


def test_a_server_of_the_compose_file_shares_its_ledger_and_its_adapters(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = compose()["services"]["server"]["environment"]
    for name, value in environment.items():
        if name.removeprefix(PREFIX).lower() in Settings.model_fields:
            monkeypatch.setenv(name, re.sub(r"\$\{\w+:\?[^}]*\}", "s3cret", value))
    settings = Settings()

    assert settings.ledger_location == "postgresql+psycopg://ttt:s3cret@postgres/ttt"
    assert settings.store_url == "redis://:s3cret@redis:6379/0"
    assert "s3cret" not in repr(settings)


# The image


def test_the_image_is_made_of_what_is_there_and_of_all_packages() -> None:
    copied = [name for line in re.findall(r"^COPY (.*)$", DOCKERFILE, re.MULTILINE) for name in line.split()[:-1]]

    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) <= set(copied)


def test_the_build_is_sent_what_the_image_is_made_of_and_no_environment_history_or_secret() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    copied = [name for line in re.findall(r"^COPY (.*)$", DOCKERFILE, re.MULTILINE) for name in line.split()[:-1]]
    wanted = [path for path in tracked if any(path == name or path.startswith(f"{name}/") for name in copied)]
    left_out = [".git/config", ".venv/bin/python", ".venv-mlflow/bin/pip", ".env", "deploy/.env", "runs/a.jsonl",
                ".ttt-router/ledger.sqlite", "ttt-router.toml", "tests/conftest.py", "router/__pycache__/cli.pyc",
                "router/serve/__pycache__/app.pyc"]  # fmt: skip

    assert len(wanted) > 100
    assert [path for path in wanted if is_ignored(path)] == []
    assert [path for path in left_out if not is_ignored(path)] == []


def is_ignored(path: str) -> bool:
    """As Docker reads .dockerignore: what is said of a folder holds for all that is in it, and the last line wins."""
    ignored, parts = False, path.split("/")
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and line[0] != "#":
            pattern = re.escape(line.lstrip("!")).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
            above = ("/".join(parts[: n + 1]) for n in range(len(parts)))
            if any(re.fullmatch(pattern, each) for each in above):
                ignored = line[0] != "!"
    return ignored


def test_the_image_installs_extras_that_there_are() -> None:
    (listed,) = re.findall(r'"\.\[([\w,]+)\]"', DOCKERFILE)

    assert set(listed.split(",")) <= PROJECT["project"]["optional-dependencies"].keys()


@pytest.mark.parametrize(
    ("given", "added"), [("", []), ("a.index/cpu", ["--extra-index-url", "a.index/cpu"])], ids=["none", "one"]
)
def test_an_index_of_torch_is_asked_beside_the_one_that_has_everything_else(given: str, added: list[str]) -> None:
    (line,) = re.findall(r"^RUN (pip install .*TORCH_INDEX.*)$", DOCKERFILE, re.MULTILINE)
    run = ["sh", "-c", line.replace("pip install", "printf '%s\n'", 1)]
    told = subprocess.run(run, env={"TORCH_INDEX": given}, capture_output=True, text=True).stdout.split()

    assert told == ["-c", "constraints.txt", *added, "torch"]
    assert re.search(r"^torch==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)  # whichever has a newer one


def test_the_image_has_a_stage_for_every_device_and_names_no_package_index() -> None:
    stages = re.findall(r"^FROM \S+ AS (\w+)$", DOCKERFILE, re.MULTILINE)
    devices = {compose(name)["services"]["server"]["build"]["args"]["DEVICE"] for name in
               ("compose.yaml", "compose.cuda.yaml")}  # fmt: skip

    assert devices == {"cpu", "cuda"} <= set(stages)
    assert "http" not in re.sub(r"http://127\.0\.0\.1\S*", "", DOCKERFILE)


@pytest.mark.parametrize(
    "command",
    [json.loads(re.findall(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)[0]), server_pod()["containers"][0]["command"]],
    ids=["Dockerfile", "kuberay.yaml"],
)
def test_the_command_of_a_container_is_one_of_ours(command: list[str]) -> None:
    program, name, *options = command
    run = [sys.executable, "-c", "import sys; from router.cli import main; sys.exit(main(sys.argv[1:]))"]
    shown = subprocess.run([*run, name, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120)

    assert program in PROJECT["project"]["scripts"]
    assert shown.returncode == 0
    assert [option for option in options if option.startswith("--") and option not in shown.stdout] == []


@pytest.fixture
def listening() -> Iterator[tuple[int, list[str]]]:
    """A server that says it is well; its port, and what it was asked for."""
    asked: list[str] = []

    class Healthy(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200 if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Healthy) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server.server_address[1], asked
        server.shutdown()
        thread.join()


def test_the_image_asks_for_its_own_health(listening: tuple[int, list[str]]) -> None:
    port, asked = listening
    (command,) = re.findall(r"^HEALTHCHECK.* CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    python, *arguments = [part.replace("8770", str(port)) for part in json.loads(command)]
    well = subprocess.run([sys.executable, *arguments], timeout=60)
    elsewhere = [part.replace(str(port), str(free_port())) for part in arguments]
    ill = subprocess.run([sys.executable, *elsewhere], capture_output=True, timeout=60)

    assert python == "python"
    assert (well.returncode, asked) == (0, ["/health"])
    assert ill.returncode != 0


# What the other containers run


def test_redis_runs_as_the_compose_file_has_it(tmp_path: Path) -> None:
    service = compose()["services"]["redis"]
    name, *arguments = [re.sub(r"\$\{\w+:\?[^}]*\}", "s3cret", part) for part in service["command"]]
    port, environment = str(free_port()), {**os.environ, "REDISCLI_AUTH": "s3cret"}
    server = subprocess.Popen(
        [installed(), "--port", port, "--dir", str(tmp_path), *arguments], stdout=subprocess.DEVNULL
    )
    try:
        client, *asks = service["healthcheck"]["test"][1:]
        check = [client, "-p", port, *asks]
        until = time.monotonic() + 20
        while (said := _said(check, environment)) != "PONG" and time.monotonic() < until:
            time.sleep(0.05)
        asked = [client, "-p", port, "config", "get", "maxmemory-policy"]
        policy = _said(asked, environment)
        nobody = _said([client, "-p", port, "get", "x"], {**os.environ, "REDISCLI_AUTH": ""})
    finally:
        server.terminate()
        server.wait(20)

    assert (name, said) == ("redis-server", "PONG")
    assert policy.split() == ["maxmemory-policy", "volatile-lfu"]
    assert "NOAUTH" in nobody


def _said(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20)
    return done.stdout.strip()


# Kubernetes


def test_the_cluster_is_of_the_form_that_kuberay_reads() -> None:
    cluster = kuberay("RayCluster")

    assert cluster["apiVersion"] == "ray.io/v1"
    jsonschema.validate(cluster["spec"], RAY_CLUSTER)
    jsonschema.validate(kuberay("Deployment")["spec"]["template"], POD)


def test_the_cluster_has_the_ray_that_we_pin_and_one_image_for_all() -> None:
    version = kuberay("RayCluster")["spec"]["rayVersion"]

    assert f"ray=={version}" in (ROOT / "constraints.txt").read_text().split()
    assert len({each["image"] for each in containers()}) == 1


def test_a_pod_that_asks_for_no_gpu_is_given_none_and_the_image_claims_none() -> None:
    """NVIDIA's runtime goes by the variable where nobody else has said what a container gets."""
    without = [each for each in containers() if "nvidia.com/gpu" not in each["resources"]["limits"]]

    assert [each["name"] for each in without] == ["ray-head", "server"]
    assert all({"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"} in each["env"] for each in without)
    assert re.findall(r"^ENV.*NVIDIA_VISIBLE_DEVICES", DOCKERFILE, re.MULTILINE) == []


def test_kubernetes_asks_a_server_for_nothing_that_needs_a_key_and_waits_for_its_model() -> None:
    (server,) = server_pod()["containers"]
    probes = {name: server[name] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    waits_s = probes["startupProbe"]["periodSeconds"] * probes["startupProbe"]["failureThreshold"]

    assert {probe["httpGet"]["path"] for probe in probes.values()} <= OPEN
    assert waits_s >= 300
    assert f"--uid {server_pod()['securityContext']['fsGroup']} " in DOCKERFILE


def test_whoever_asks_for_a_job_comes_to_the_server_that_took_it_for_as_long_as_results_are_kept() -> None:
    service = kuberay("Service")["spec"]

    assert service["selector"].items() <= kuberay("Deployment")["spec"]["template"]["metadata"]["labels"].items()
    assert service["sessionAffinity"] == "ClientIP"
    assert (
        Settings.model_fields["serve_job_s"].default <= service["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"]
    )


def test_the_servers_ask_for_workers_that_the_cluster_can_have() -> None:
    pytest.importorskip("ray")
    environment = {each["name"]: each.get("value") for each in server_pod()["containers"][0]["env"]}
    url, cluster = environment["TTT_ROUTER_EXECUTOR"], kuberay("RayCluster")
    executor = open_executor(url)
    asked = dict(part.split("=") for part in url.partition("?")[2].split("&"))
    (group,) = cluster["spec"]["workerGroupSpecs"]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]

    assert executor.reach == "cluster"
    assert url.startswith(f"ray://{cluster['metadata']['name']}-head-svc:10001?")
    assert (asked["gpus"], asked["cpus"]) == (limits["nvidia.com/gpu"], limits["cpu"])
    assert int(asked["workers"]) == group["maxReplicas"]
    assert cluster["spec"]["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0", "num-gpus": "0"}
