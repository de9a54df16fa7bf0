"""The commands around stored traces: words for people, JSON for programs, exit codes for scripts."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

import router.cli
from icl_engine.scripted_model import ScriptedModel
from icl_engine.task import Task
from policies.decision import Decision
from policies.features import Features
from policies.fixed import AlwaysArm
from policies.ledger import Ledger
from policies.loo_threshold import LooThreshold
from policies.records import OutcomeRow
from router.cli import main
from router.router import Router
from router.settings import Settings
from router.traces import read_trace, why
from tests.router.fakes import grid_task, mirrored
from tests.router.traces.fakes import ADAPTER, GROUNDS, keep

HOSTILE = "\x1b[31m<script>{{7*7}}\u202e'; DROP TABLE traces; --"
Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def home(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with four traces, the last of a hostile task."""
    monkeypatch.setenv("TTT_ROUTER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "160")
    with Ledger.open(tmp_path / "home") as ledger:
        keep(ledger, "a0000000", policy=LooThreshold(epsilon=0.0), adapter=ADAPTER)
        keep(ledger, "b0000000", policy=AlwaysArm("icl"), degraded=("no GPU",))
        keep(ledger, "b1111111", policy=AlwaysArm("ttt"), grounds=GROUNDS)
        keep(ledger, "c0000000", task=Task.from_pairs([(HOSTILE, "a"), ("b", "c")], HOSTILE, id=HOSTILE))
        ledger.add_outcome(OutcomeRow("a0000000", "user", "exact", 1.0))
        ledger.add_outcome(OutcomeRow("b0000000", "user", "exact", 0.0))
    return tmp_path / "home"


@pytest.fixture
def ledger(home: Path) -> Iterator[Ledger]:
    with Ledger.open(home) as opened:
        yield opened


def ids(capsys: Captured, *arguments: str) -> list[str]:
    assert main(["traces", "list", "--json", *arguments]) == 0
    return [json.loads(line)["trace_id"][:2] for line in capsys.readouterr().out.splitlines()]


def test_a_list_takes_a_number_and_filters(capsys: Captured) -> None:
    assert ids(capsys) == ["c0", "b1", "b0", "a0"]
    assert ids(capsys, "-n", "2", "--skip", "1") == ["b1", "b0"]
    assert ids(capsys, "--arm", "icl") == ["b0"]
    assert ids(capsys, "--outcome", "right") == ["a0"]
    assert ids(capsys, "--outcome", "unknown") == ["c0", "b1"]
    assert ids(capsys, "--policy", "always_ttt") == ["b1"]
    assert ids(capsys, "--errors") == ["b0"]
    assert ids(capsys, "--no-errors", "--until", "1999-01-01") == []
    assert ids(capsys, "--since", "2w", "--task", "flip_1") == ["b1", "b0", "a0"]
    assert ids(capsys, "--regret") == ["b1", "c0", "b0", "a0"]


def test_a_list_is_a_table_for_people_and_lets_nothing_through(capsys: Captured) -> None:
    assert main(["traces", "list", "-n", "3"]) == 0

    told = capsys.readouterr()
    assert "trace" in told.out.splitlines()[0]
    assert [line.split()[0] for line in told.out.splitlines()[1:]] == ["c0000000", "b1111111", "b0000000"]
    assert "wrong" in told.out
    assert "\x1b" not in told.out
    assert "\u202e" not in told.out
    assert "3 of 4" in told.err


def test_why_says_what_the_ledger_holds_word_for_word(capsys: Captured, ledger: Ledger) -> None:
    said = why(read_trace(ledger, "b1111111"))

    assert main(["traces", "why", "b1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "trace_id": "b1111111", **{sentence.topic: sentence.text for sentence in said}
    }  # fmt: skip
    assert main(["traces", "why", "b1"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert all(" ".join(sentence.text.split()) in told for sentence in said if len(sentence.text) < 100)
    assert "it would have been icl" in told


def test_show_draws_the_task_the_votes_the_reasons_and_the_way(capsys: Captured) -> None:
    assert main(["traces", "show", "a0", "--symbols"]) == 0

    told = capsys.readouterr().out
    for part in (
        "trace a0000000, task flip_1",
        "demonstration 1",
        "054",
        "75%",
        "answer_ttt",
        "8,500 ms",
        "It was right.",
    ):
        assert part in told


def test_show_prints_the_document_for_programs(capsys: Captured, ledger: Ledger) -> None:
    assert main(["traces", "show", "last", "--json"]) == 0

    assert capsys.readouterr().out.strip() == ledger.trace("c0000000").document


@pytest.mark.parametrize("command", [["show"], ["why"], ["list"], ["path", "last"], ["diff", "a0", "c0"]])
def test_hostile_text_is_shown_as_text(command: list[str], capsys: Captured) -> None:
    assert main(["traces", *command]) == 0

    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert "\u202e" not in told


def test_a_difference_is_a_field_with_its_two_values(capsys: Captured) -> None:
    assert main(["traces", "diff", "a0", "b0", "--json"]) == 0
    found = {
        line["field"]: (line["one"], line["other"]) for line in map(json.loads, capsys.readouterr().out.splitlines())
    }

    assert found["decision.arm"] == ("ttt", "icl")
    assert found["degraded"] == ("[]", '["no GPU"]')
    assert "trace_id" not in found
    assert main(["traces", "diff", "a0", "a0"]) == 0
    assert "differ in nothing" in capsys.readouterr().out


def test_what_is_replayed_is_the_same_and_what_is_not_has_its_exit_code(capsys: Captured, ledger: Ledger) -> None:
    assert main(["traces", "replay"]) == 0
    assert "4 of 4 decisions are the same, bit for bit." in capsys.readouterr().out
    keep(ledger, "d0000000", policy=Renamed())

    assert main(["traces", "replay", "a0", "d0", "--json"]) == 1
    same, other = map(json.loads, capsys.readouterr().out.splitlines())
    assert (same["equal"], other["equal"]) == (True, False)
    assert "not known here" in other["problem"]
    assert main(["traces", "replay"]) == 1
    assert "4 of 5" in capsys.readouterr().out


class Renamed(LooThreshold):
    """A policy of a name that nobody knows."""

    @property
    def name(self) -> str:
        return "of_somebody"


def test_a_fork_with_another_policy_says_what_it_would_have_done(capsys: Captured) -> None:
    lenient = "loo_threshold@1:threshold=0.25,sure_at=0.9,epsilon=0.0"
    assert main(["traces", "fork", "a0", "--policy", lenient]) == 0
    assert "would have answered with icl, instead of ttt" in capsys.readouterr().out

    assert main(["traces", "fork", "a0", "--policy", lenient, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["arm"] == "icl"
    assert main(["traces", "fork", "a0", "--policy", "trees@9"]) == 2
    assert "not known here" in capsys.readouterr().err


def test_a_fork_runs_the_other_arm_once_its_price_is_accepted(
    capsys: Captured, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(router.cli, "make_router", lambda settings: Router(settings, model=ScriptedModel(mirrored)))
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert main(["traces", "fork", "a0", "--arm", "icl"]) == 1
    assert "icl: about 0.5 s?" in capsys.readouterr().err
    assert len(ledger.latest(9)) == 4

    assert main(["traces", "fork", "a0", "--arm", "icl", "--yes", "--json"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert (line["arm"], line["forked_from"], line["same_answers"]) == ("icl", "a0000000", True)
    assert ledger.decision(line["trace_id"]).policy == "always_icl@1"
    assert read_trace(ledger, line["trace_id"]).trace.task == grid_task()


def test_a_fork_wants_one_way_to_go(capsys: Captured) -> None:
    assert main(["traces", "fork", "a0"]) == 2
    assert main(["traces", "fork", "a0", "--arm", "icl", "--policy", "p@1"]) == 2
    assert "--arm, --policy" in capsys.readouterr().err


def test_an_export_is_one_tracesdata_a_line_oldest_first(capsys: Captured, tmp_path: Path) -> None:
    assert main(["traces", "export", "--out", str(tmp_path / "spans.jsonl")]) == 0
    assert main(["traces", "export", "a0", "--no-content"]) == 0

    lines = [json.loads(line) for line in (tmp_path / "spans.jsonl").read_text().splitlines()]
    assert len(lines) == 4
    roots = [line["resourceSpans"][0]["scopeSpans"][0]["spans"][0] for line in lines]
    kept = [{each["key"]: each["value"] for each in root["attributes"]}["router.trace.id"] for root in roots]
    assert [value["stringValue"][:2] for value in kept] == ["a0", "b0", "b1", "c0"]
    (alone,) = capsys.readouterr().out.splitlines()
    assert "input.value" not in alone


def test_a_push_that_reaches_nobody_has_its_exit_code(capsys: Captured) -> None:
    assert main(["traces", "push", "http://127.0.0.1:9", "a0"]) == 4
    assert "cannot be reached" in capsys.readouterr().err
    assert main(["traces", "push", "http://127.0.0.1:9", "--header", "nothing"]) == 2


def test_path_says_where_the_traces_are_and_which_way_one_took(capsys: Captured, home: Path) -> None:
    assert main(["traces", "path"]) == 0
    assert capsys.readouterr().out.strip() == str(home / "ledger.sqlite")
    assert main(["traces", "path", "a0", "--json"]) == 0
    steps = [json.loads(line)["name"] for line in capsys.readouterr().out.splitlines()]
    assert steps == ["admit", "probe", "lookup", "decide", "adapt", "answer_ttt", "verify"]


def test_ids_that_are_none_or_several_have_their_exit_codes(capsys: Captured, tmp_path: Path, ledger: Ledger) -> None:
    assert main(["traces", "show", "b"]) == 2
    assert "b1111111, b0000000 begin so" in capsys.readouterr().err
    assert main(["traces", "show", "zz"]) == 2
    assert main(["traces", "list", "--home", str(tmp_path / "nowhere")]) == 4
    assert main(["traces", "list", "--since", "yesterday"]) == 2
    assert "--since: got 'yesterday'" in capsys.readouterr().err
    ledger.traces.prune(max_age_s=1, max_bytes=0)
    assert main(["traces", "show", "a0"]) == 2
    assert main(["traces", "show", "last"]) == 2


def test_a_trace_that_was_pruned_is_told_from_one_that_never_was(capsys: Captured, ledger: Ledger) -> None:
    whole_id = "f" * 32
    keep(ledger, whole_id)
    ledger.traces.prune(max_age_s=1, max_bytes=0)

    assert main(["traces", "show", whole_id]) == 1
    assert "was pruned" in capsys.readouterr().err
    assert main(["traces", "show", "e" * 32]) == 2


def test_what_a_trace_says_of_faults_holds_no_secret(folder: Path, tmp_path: Path) -> None:
    secret = "hunter22-is-a-password"
    settings = Settings(home=tmp_path / "other", store_secrets=secret, store_url=f"redis://me:{secret}@127.0.0.1:1/0")

    with Router(settings, model=ScriptedModel(mirrored), policy=Leaking(secret)) as bound:
        solution = bound.solve(grid_task())

    assert any("failed" in said for said in solution.degraded)
    assert secret.encode() not in (tmp_path / "other" / "ledger.sqlite").read_bytes()


class Leaking:
    """A policy that fails, and says of a secret what it should not."""

    name, version = "leaking", "1"

    def __init__(self, secret: str) -> None:
        self.secret = secret

    def decide(self, features: Features, rng: np.random.Generator, arms: Sequence[str]) -> Decision:
        raise RuntimeError(f"could not ask redis://me:{self.secret}@127.0.0.1 with {self.secret}")

    def propensities(self, features: Features, arms: Sequence[str]) -> tuple[float, ...]:
        return (1.0,)
