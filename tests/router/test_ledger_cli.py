"""The ledger from the command line: checked, recovered, exported; codes and words for programs and for people."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from policies.ledger import Ledger
from router.cli import main
from router.settings import Settings
from tests.policies.fakes import decision_row


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("TTT_ROUTER_HOME", str(folder))
    monkeypatch.chdir(tmp_path)
    with Ledger.open(folder) as ledger:
        for i in range(10):
            ledger.record(decision_row(f"trace-{i}"), '{"größer": "≥"}')
    return folder


def damage(home: Path) -> None:
    content = (home / "ledger.sqlite").read_bytes()
    (home / "ledger.sqlite").write_bytes(content.replace(b"1 of 3 demonstrations", b"2 of 3 demonstrations", 1))


def test_a_whole_ledger_is_ok(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ledger", "check", "--json"]) == 0

    findings = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {finding["found"] for finding in findings} == {"ok"}


def test_damage_is_told_and_has_its_exit_code(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage(home)

    assert main(["ledger", "check"]) == 4

    assert "not as they were written: 1 of decisions" in " ".join(capsys.readouterr().out.split())


def test_a_damaged_ledger_is_recovered_and_what_is_lost_is_told(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage(home)

    assert main(["ledger", "recover"]) == 0

    told = capsys.readouterr().out
    assert [line.split() for line in told.splitlines() if line.startswith("decisions")] == [
        ["decisions", "9", "0", "1", "0"]
    ]
    assert "The damaged file is kept as" in told
    assert main(["ledger", "check"]) == 0
    assert main(["ledger", "recover"]) == 0
    assert "nothing to recover" in capsys.readouterr().out


def test_the_export_holds_every_row(home: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["ledger", "export"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert [row["table"] for row in rows].count("decisions") == 10
    assert [row["document"] for row in rows if row["table"] == "traces"] == ['{"größer": "≥"}'] * 10
    assert main(["ledger", "export", str(home / "ledger.sqlite"), "--out", str(tmp_path / "rows.jsonl")]) == 0
    assert [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()] == rows


def test_what_is_not_there_has_its_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ledger", "check", str(tmp_path / "none.sqlite")]) == 4
    assert "no such file" in capsys.readouterr().err


def test_an_export_of_what_is_not_there_makes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ledger", "export", str(tmp_path / "misspelt")]) == 4

    assert "no such file" in capsys.readouterr().err
    assert not (tmp_path / "misspelt").exists()


def test_a_ledger_named_in_the_settings_is_checked_as_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TTT_ROUTER_LEDGER_URL", f"sqlite:///{tmp_path}/elsewhere.sqlite")
    settings = Settings()
    with Ledger.open(settings.ledger_location, files=settings.policy_folder) as ledger:
        ledger.policy_versions.publish(b"{}")

    assert main(["ledger", "check"]) == main(["ledger", "check", str(tmp_path / "elsewhere.sqlite")]) == 0
    assert Settings(ledger_url="postgresql://host/name", home=tmp_path).policy_folder == tmp_path / "policies"
    capsys.readouterr()


def test_a_home_folder_may_be_named_as_for_the_other_commands(tmp_path: Path) -> None:
    Ledger.open(tmp_path).close()

    assert main(["ledger", "check", "--home", str(tmp_path)]) == 0
    assert main(["ledger", "export", "--home", str(tmp_path / "nowhere")]) == 4
