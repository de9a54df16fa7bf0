"""Keys are read, told apart and told to nobody; what a tenant may use fills up again."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from icl_engine.task import Task, Value
from router.redaction import Redactor
from router.serve.allowances import Allowances, Bucket
from router.serve.json_log import JsonFormatter
from router.serve.keys import ApiKeys, presented_in
from router.settings import Settings, SettingsError
from tests.router.serve.serving import LAB, serving, shouting, text

CANARY = "canary-secret-of-32-characters-ab"


def test_keys_come_from_a_variable_and_from_a_file_that_nobody_else_may_read(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# the second lab\nother={'b' * 16}\n\nlab={'c' * 16}\n")
    file.chmod(0o600)

    keys = ApiKeys.of(Settings(home=tmp_path, serve_keys=f"lab={'a' * 16}", serve_keys_file=file))

    assert [keys.tenant(letter * 16) for letter in "abcd"] == ["lab", "other", "lab", None]
    assert keys.tenants == ("lab", "other")


@pytest.mark.parametrize(
    "entry", ["lab", "lab=short", f"Lab={CANARY}", f"lab={CANARY} x", f"={CANARY}", "lab=" + "x" * 300]
)
def test_an_entry_that_will_not_do_is_refused_and_never_repeated(tmp_path: Path, entry: str) -> None:
    with pytest.raises(SettingsError, match="entry 1") as refused:
        ApiKeys.of(Settings(home=tmp_path, serve_keys=entry))

    assert CANARY not in str(refused.value)


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"lab={CANARY}")
    file.chmod(0o644)

    with pytest.raises(SettingsError, match="chmod 600"):
        ApiKeys.of(Settings(home=tmp_path, serve_keys_file=file))


def test_without_any_key_there_is_no_service(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="nobody could ask"):
        ApiKeys.of(Settings(home=tmp_path))


@pytest.mark.parametrize(
    ("header", "key"),
    [
        (b"Bearer abc", "abc"),
        (b"bearer  abc ", "abc"),
        (b"Basic eDphYmM=", "abc"),
        (b"Basic !!!", None),
        (b"Basic \xff", None),
        (b"Basic /w==", None),
        (b"Digest abc", None),
        (b"", None),
        (b"\xff\xfe", None),
    ],
)
def test_a_key_is_found_in_its_header(header: bytes, key: str | None) -> None:
    assert presented_in(header, basic=True) == key


def test_a_bucket_fills_up_to_its_brim_and_may_be_overdrawn() -> None:
    now = 0.0
    bucket = Bucket(2.0, 4.0, clock=lambda: now)

    assert bucket.wait_s(4.0) == 0.0
    bucket.take(10.0)
    assert bucket.wait_s() == pytest.approx(3.0)
    now = 3.5
    assert bucket.wait_s() == 0.0
    now = 1000.0
    assert bucket.wait_s(4.0) == 0.0
    assert bucket.wait_s(5.0) > 0.0


def test_each_tenant_has_its_own() -> None:
    allowances = Allowances(1.0, 10.0)
    allowances.computed("lab", 11.0)

    assert [allowances.request("lab") for _ in range(2)] == [0.0, 0.0]
    assert allowances.request("lab") > 0
    assert allowances.request("other") == 0.0
    assert allowances.compute_wait_s("lab") > 300
    assert allowances.compute_wait_s("other") == 0.0


def test_no_key_and_no_password_is_in_logs_answers_or_traces(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    settings: dict[str, Any] = {"store_secrets": CANARY, "serve_keys": f"lab={CANARY}"}
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonFormatter(Redactor.of(Settings(home=tmp_path, **settings)).knowing([LAB])))

    def failing(task: Task) -> Value:
        if task.query == "fail":
            raise RuntimeError(f"cannot reach redis://user:{CANARY}@host with {LAB}")
        return shouting(task)

    for name in ("ttt_router.serve", "ttt_router.access"):
        logging.getLogger(name).addHandler(handler)
        logging.getLogger(name).setLevel(logging.DEBUG)
    try:
        with serving(tmp_path, failing, **settings) as running, running.client() as lab:
            said = [
                lab.post("/v1/solve", json={"tasks": [text("fail")]}),
                lab.post("/v1/solve", json={"tasks": [text()]}),
                lab.post(f"/v1/solve?key={CANARY}", json={"tasks": 3}),
                lab.get("/ready"),
                lab.get("/metrics"),
                lab.get("/v1/traces"),
                lab.get(f"/{CANARY}"),
            ]
            running.service.tenants.router("lab").flush()
            assert running.solves() == 1
    finally:
        for name in ("ttt_router.serve", "ttt_router.access"):
            logging.getLogger(name).removeHandler(handler)
            logging.getLogger(name).setLevel(logging.NOTSET)

    everything = "".join(answer.text + str(answer.headers) for answer in said) + written.getvalue()
    assert "a solve failed" in written.getvalue()
    assert all(isinstance(json.loads(line), dict) for line in written.getvalue().splitlines())
    assert CANARY not in everything
    assert LAB not in everything
    assert str(tmp_path) not in "".join(answer.text for answer in said)
    for kept in tmp_path.rglob("*"):
        if kept.is_file():
            assert not any(secret.encode() in kept.read_bytes() for secret in (CANARY, LAB))
