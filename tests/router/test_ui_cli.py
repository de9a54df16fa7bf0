"""`ttt-router ui`: who may be let in, what must be installed, and which solutions are known."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

import router.ui_cli
from router.cli import main
from router.extras import require_extra
from router.settings import Settings, SettingsError
from router.ui_cli import listening, require_loopback, solutions_in

SOLVED = {
    "train": [{"input": [[1, 0]], "output": [[0, 1]]}, {"input": [[2, 0]], "output": [[0, 2]]}],
    "test": [{"input": [[3, 0]], "output": [[0, 3]]}, {"input": [[4, 0]], "output": [[0, 4]]}],
}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.9"])
def test_this_machine_is_let_in(host: str) -> None:
    require_loopback(host, any_host=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.org", ""])
def test_others_are_let_in_only_where_it_is_asked_for(host: str) -> None:
    require_loopback(host, any_host=True)

    with pytest.raises(SettingsError, match="--any-host"):
        require_loopback(host, any_host=False)


@pytest.mark.parametrize("extra", ["ui", "serve"])
def test_without_the_extra_it_says_how_to_install_it(extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with pytest.raises(SettingsError, match=rf"ttt-router\[{extra}\]"):
        require_extra(extra)


def test_an_address_that_others_reach_is_a_usage_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["ui", "--host", "0.0.0.0", "--read-only"])

    assert code == 2
    assert "--any-host" in capsys.readouterr().err


def test_solutions_are_known_for_a_task_and_for_each_of_its_queries(folder: Path) -> None:
    file = folder / "task.json"
    file.write_text(json.dumps(SOLVED))

    known = solutions_in(file, Settings())

    assert sorted(map(len, known.values())) == [1, 1, 2]
    assert (((0, 3),),) in known.values()


def test_where_the_usual_port_is_taken_another_is_listened_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening("127.0.0.1", 0) as taken:
        monkeypatch.setattr(router.ui_cli, "_PORT", taken.getsockname()[1])
        with listening("127.0.0.1", None) as other:
            assert other.getsockname()[1] != taken.getsockname()[1]

        with pytest.raises(SettingsError, match="--port"):
            listening("127.0.0.1", taken.getsockname()[1])
