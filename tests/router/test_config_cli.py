"""`ttt-router config show` says what is set and where; secrets are masked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from router.cli import main
from router.settings import Settings


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, dict[str, str]]:
    assert main(["config", "show", "--json", *arguments]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return {line["setting"]: line for line in lines}


def test_each_setting_is_shown_with_where_it_came_from(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "ttt-router.toml").write_text("n_views = 4\nepsilon = 0.1\nprice = 0.2\n")
    (folder / ".env").write_text("TTT_ROUTER_EPSILON=0.2\nTTT_ROUTER_SEED=7\n")
    monkeypatch.setenv("TTT_ROUTER_SEED", "8")
    monkeypatch.setenv("TTT_ROUTER_LIMITS__SIDE", "20")

    found = shown(capsys, "--home", str(folder))

    assert set(found) == set(Settings.model_fields)
    assert (found["seed"]["value"], found["seed"]["origin"]) == ("8", "TTT_ROUTER_SEED")
    assert (found["epsilon"]["value"], found["epsilon"]["origin"]) == ("0.2", "TTT_ROUTER_EPSILON in .env")
    assert (found["n_views"]["value"], found["n_views"]["origin"]) == ("4", "n_views in ttt-router.toml")
    assert (found["device"]["value"], found["device"]["origin"]) == ("auto", "default")
    assert (found["home"]["value"], found["home"]["origin"]) == (str(folder), "argument")
    assert "side 20" in found["limits"]["value"]
    assert found["limits"]["origin"] == "TTT_ROUTER_LIMITS"


def test_what_nobody_has_set_can_be_left_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TTT_ROUTER_SEED", "8")

    assert set(shown(capsys, "--given")) == {"seed"}


def test_no_secret_is_shown(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    canary = "canary-secret-of-32-characters-ab"
    monkeypatch.setenv("TTT_ROUTER_SERVE_KEYS", f"lab={canary}")
    monkeypatch.setenv("TTT_ROUTER_STORE_SECRETS", canary)
    monkeypatch.setenv("TTT_ROUTER_STORE_URL", f"redis://me:{canary}@host/0")
    monkeypatch.setenv("TTT_ROUTER_LEDGER_URL", f"postgresql://me:{canary}@host/db")

    assert main(["config", "show"]) == 0
    assert main(["config", "show", "--json"]) == 0
    told = capsys.readouterr()

    assert canary not in told.out + told.err
    assert "host/0" in told.out


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_what_is_set_and_is_no_setting_is_told_beside_the_list(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    monkeypatch.setenv("TTT_ROUTER_MODLE", "x")

    assert main(["config", "show", *options]) == 0
    told = capsys.readouterr()
    assert "MODLE" not in told.out
    assert told.err == "TTT_ROUTER_MODLE is no setting and does nothing; did you mean TTT_ROUTER_MODEL?\n"
