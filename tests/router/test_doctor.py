"""What doctor finds. The checks that load torch or a model are stood in for, but for one run of the whole."""

from __future__ import annotations

import io
import json
import re
import time
from pathlib import Path

import pytest
from rich.console import Console

import router.doctor
from policies.ledger import Ledger
from router.doctor import Finding, examine, run_doctor
from router.settings import Settings
from tests.openai_server import openai_server
from tests.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without device and model, which take seconds."""
    monkeypatch.setattr(router.doctor, "_device", lambda settings: Finding("device", "ok", "CPU"))
    monkeypatch.setattr(router.doctor, "_model", lambda settings: Finding("model", "ok", "scripted"))


def findings(settings: Settings) -> dict[str, Finding]:
    return {finding.check: finding for finding in examine(settings)}


@pytest.mark.usefixtures("light")
def test_a_sound_installation_has_no_failed_check(tmp_path: Path) -> None:
    found = findings(Settings(home=tmp_path))

    assert [finding.check for finding in found.values() if finding.state == "failed"] == []
    assert list(found) == [
        "python", "packages", "variables", "home", "disk", "ledger", "store", "service", "executor",
        "remote", "arms", "device", "model",
    ]  # fmt: skip
    assert "synchronous" in found["ledger"].found
    assert (found["service"].state, "serve_keys_file" in found["service"].found.lower()) == ("unset", True)


@pytest.mark.usefixtures("light")
def test_a_look_makes_nothing_and_says_what_the_first_solve_will_make(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    before = findings(Settings(home=empty / "new" / "home"))
    inside = findings(Settings(home=empty))

    assert list(empty.iterdir()) == []
    for found in (before, inside):
        assert {found[check].state for check in ("home", "disk", "ledger", "store")} == {"ok"}
        assert "the first solve makes it" in found["ledger"].found
    assert "the first solve makes it" in before["home"].found
    assert inside["home"].found == str(empty)


@pytest.mark.usefixtures("light")
def test_a_ledger_that_is_there_is_opened(tmp_path: Path) -> None:
    Ledger.open(tmp_path).close()

    assert "makes it" not in findings(Settings(home=tmp_path))["ledger"].found


@pytest.mark.usefixtures("light")
def test_a_home_that_is_a_file_is_found_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")

    found = findings(Settings(home=tmp_path / "home"))

    assert found["home"].state == "failed"
    assert "TTT_ROUTER_HOME" in found["home"].remedy


@pytest.mark.usefixtures("light")
def test_a_ledger_that_is_something_else_is_found(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_text("no database, but a long enough text to be looked at" * 100)

    found = findings(Settings(home=tmp_path))

    assert found["ledger"].state == "failed"
    assert found["ledger"].remedy
    assert found["store"].state == "ok"


@pytest.mark.usefixtures("light")
def test_an_unknown_variable_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTT_ROUTER_MODLE", "x")

    found = findings(Settings(home=tmp_path))["variables"]

    assert found.state == "warning"
    assert "did you mean TTT_ROUTER_MODEL?" in found.remedy


@pytest.mark.usefixtures("light")
def test_no_password_is_shown(tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path, store_url="redis://me:secret@host/0", ledger_url="nosuchdialect://me:secret@host/db"
    )

    assert "secret" not in str(findings(settings))


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize(
    "url",
    [
        "redis://me:a@secret@127.0.0.1:1",
        "redis://me:a/secret@127.0.0.1:1",
        "redis://127.0.0.1:1?db=0&password=secret",
        "unix:///nowhere?password=secret",
    ],
)
def test_no_password_is_shown_wherever_it_stands(tmp_path: Path, url: str) -> None:
    found = findings(Settings(home=tmp_path, store_url=url))["store"]

    assert found.state in ("failed", "warning")
    assert "secret" not in str(found)


@pytest.mark.usefixtures("light")
def test_a_redis_that_answers_is_named_and_one_that_does_not_is_a_warning(tmp_path: Path, redis: RedisServer) -> None:
    there = findings(Settings(home=tmp_path, store_url=redis.tcp_url))["store"]
    away = findings(Settings(home=tmp_path, store_url="redis://127.0.0.1:1"))["store"]

    assert there.state == "ok"
    assert re.match(r"(redis|valkey) \d", there.found)
    assert (away.state, bool(away.remedy)) == ("warning", True)


@pytest.mark.usefixtures("light")
def test_a_redis_that_refuses_us_is_failed_with_what_to_do(tmp_path: Path) -> None:
    with redis_server(requirepass="secret") as server:
        found = findings(Settings(home=tmp_path, store_url=server.tcp_url))["store"]

    assert found.state == "failed"
    assert "password" in found.remedy


@pytest.mark.usefixtures("light")
def test_a_secret_that_others_can_read_is_failed(tmp_path: Path) -> None:
    (tmp_path / "adapter-secret").write_text("a secret which is long enough")
    (tmp_path / "adapter-secret").chmod(0o644)
    found = findings(Settings(home=tmp_path))["store"]

    assert found.state == "failed"
    assert "chmod 600" in found.remedy


@pytest.mark.usefixtures("light")
def test_every_line_of_json_is_a_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run_doctor(Settings(home=tmp_path), Console(file=io.StringIO()), as_json=True)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert code == 0
    assert {tuple(line) for line in lines} == {("check", "state", "found", "remedy")}


def test_a_model_that_is_not_there_is_found_and_the_exit_code_says_so(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    code = run_doctor(Settings(home=tmp_path, model=str(tmp_path / "nowhere")), console)
    assert isinstance(console.file, io.StringIO)

    assert code == 4
    assert "nowhere" in console.file.getvalue()
    assert re.search(r"device +ok", console.file.getvalue())


@pytest.mark.usefixtures("light")
def test_keys_that_others_may_read_are_found_with_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("lab=a-key-of-16-chars")
    file.chmod(0o644)
    others = findings(Settings(home=tmp_path, serve_keys_file=file))["service"]
    file.chmod(0o600)
    ours = findings(Settings(home=tmp_path, serve_keys_file=file))["service"]

    assert (others.state, ours.state) == ("failed", "ok")
    assert "chmod 600" in others.remedy
    assert ours.found == "keys of lab"


@pytest.mark.usefixtures("light")
def test_a_cluster_that_nobody_listens_for_is_failed_at_once(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    settings = Settings(
        home=tmp_path,
        ledger_url="postgresql+psycopg://nobody@127.0.0.1:1/none",
        store_url="redis://127.0.0.1:1",
        store_secrets="one of all machines",
        executor="ray://127.0.0.1:1",
    )
    began = time.monotonic()
    found = findings(settings)["executor"]
    took_s = time.monotonic() - began

    assert (found.state, bool(found.remedy)) == ("failed", True)
    assert "ray://127.0.0.1:1" in found.found
    assert took_s < 20


@pytest.mark.usefixtures("light")
def test_what_workers_on_other_machines_cannot_share_is_found_with_what_to_set(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    found = findings(Settings(home=tmp_path, executor="ray://127.0.0.1:1"))["executor"]

    assert found.state == "failed"
    assert "TTT_ROUTER_LEDGER_URL" in found.found


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize(("fault", "state"), [(None, "ok"), (404, "warning")])
def test_a_model_on_a_server_is_asked_as_its_arm_would(tmp_path: Path, fault: int | None, state: str) -> None:
    with openai_server(lambda asked: "D") as server:
        server.fault = fault
        found = findings(Settings(home=tmp_path, remote_url=server.url, remote_model="large"))["remote"]

    assert (found.state, bool(found.remedy)) == (state, state != "ok")
    assert "large" in found.found
    assert len(server.asked) == (state == "ok")


@pytest.mark.usefixtures("light")
def test_a_package_that_is_too_old_is_found_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = ["numpy>=99", "httpx>=99; extra == 'client'", "pydantic>=2"]
    monkeypatch.setattr("importlib.metadata.requires", lambda name: wanted)

    found = findings(Settings(home=tmp_path))["packages"]

    assert found.state == "failed"
    assert "numpy>=99 is" in found.found
    assert found.remedy.endswith("pip install 'numpy>=99'")
