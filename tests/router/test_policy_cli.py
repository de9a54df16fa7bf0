"""Policies from the command line: who decides is told, changed by hand with a reason, and judged without a change."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from policies.ledger import Ledger
from router.cli import main
from router.learning_rows import counted_since

FIRST, SECOND = b"first", b"second"


@pytest.fixture(autouse=True)
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    monkeypatch.setenv("TTT_ROUTER_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    with Ledger.open(tmp_path / "home") as ledger:
        first, second = (ledger.policy_versions.publish(content).version_id for content in (FIRST, SECOND))
    return first, second


def status(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    capsys.readouterr()
    assert main(["policy", "status", "--json"]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_a_promotion_by_hand_and_its_way_back_are_kept_with_their_reasons(
    published: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = published

    assert main(["policy", "promote", first[:10]]) == 0
    assert main(["policy", "promote", second, "--reason", "seen to be better"]) == 0
    told = status(capsys)
    assert (told["champion"], told["previous"]) == (second, first)
    assert "seen to be better" in json.dumps(told["versions"])
    assert main(["policy", "rollback"]) == 0
    assert status(capsys)["champion"] == first


def test_taking_back_the_first_promotion_has_who_decided_at_first_decide_again(
    published: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["policy", "promote", published[0]]) == 0
    assert main(["policy", "rollback"]) == 0

    assert "champion: none, epoch 2. Who decided before" in capsys.readouterr().out
    assert status(capsys)["champion"] is None
    with Ledger.open(tmp_path / "home") as ledger:
        assert counted_since(ledger) == ""  # all that was learned is still known


def test_the_challenger_is_meant_where_no_version_is_named(
    published: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Ledger.open(tmp_path / "home") as ledger:
        ledger.policy_versions.point("challenger", published[1], expected_epoch=0, reason="fitted")

    assert main(["policy", "promote"]) == 0
    assert status(capsys)["champion"] == published[1]
    assert main(["policy", "promote"]) == 2
    assert re.search("no policy version 'challenger'.*`ttt-router policy train` makes one", capsys.readouterr().err)
    assert main(["policy", "train"]) == 1
    assert "0 decisions with known outcomes, 100 are needed" in capsys.readouterr().err


def test_status_is_readable(published: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "status"]) == 0

    told = capsys.readouterr().out
    assert "champion    none" in told
    assert f"{published[0][:12]} candidate" in told


def test_a_version_that_is_not_there_has_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "promote", "nothing"]) == 2
    assert "no policy version 'nothing'" in capsys.readouterr().err
    assert main(["policy", "rollback"]) == 2
