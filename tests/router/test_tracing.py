"""A solve leaves its decision before it answers and its trace soon after; what becomes of the trace costs no answer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from icl_engine.scripted_model import ScriptedModel
from policies.errors import LedgerLocked
from policies.ledger import Ledger
from policies.trace_log import TraceEntry, TraceLog
from router.router import Router
from router.settings import Settings
from router.traces import read_trace, replay, writer
from tests.router.fakes import grid_task, mirrored

ROOT = Path(__file__).resolve().parents[2]
NEVER_CLOSED = """
from icl_engine.scripted_model import ScriptedModel
from router.router import Router
from router.settings import Settings
from tests.router.fakes import grid_task, mirrored
router = Router(Settings(home="HOME", arms=("icl",)), model=ScriptedModel(mirrored))
for seed in range(5):
    router.solve(grid_task(), seed=seed)
"""


class LockedLog(TraceLog):
    """A log that another program holds; decisions are kept all the same."""

    def add(self, entries: Sequence[TraceEntry]) -> None:
        raise LedgerLocked("here", "database is locked", remedy="Try again.")


@pytest.fixture
def settings(folder: Path, tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", arms=("icl", "icl_vote"), epsilon=0.5, n_views=2, tenant="somebody")


@pytest.fixture
def ledger(settings: Settings) -> Iterator[Ledger]:
    with Ledger.open(settings.ledger_location) as opened:
        yield opened


def test_a_trace_belongs_to_its_decision_and_can_be_replayed(settings: Settings, ledger: Ledger) -> None:
    with Router(settings, model=ScriptedModel(mirrored)) as router:
        ids = [router.solve(grid_task(), seed=seed).trace_id for seed in range(10)]

    for seed, trace_id in enumerate(ids):
        stored = read_trace(ledger, trace_id)
        assert (stored.trace.created_at, stored.trace.tenant) == (stored.decision.created_at, "somebody")
        assert (stored.trace.seed, stored.trace.decision.reason) == (seed, stored.decision.reason)
        assert replay(stored.decision).equal
    assert {line.arm for line in ledger.traces.summaries(n=10)} == {"icl", "icl_vote"}


def test_the_decision_is_there_when_solve_returns(settings: Settings, ledger: Ledger) -> None:
    with Router(settings, model=ScriptedModel(mirrored)) as router:
        trace_id = router.solve(grid_task()).trace_id

        assert ledger.decision(trace_id).decision_id == trace_id


def test_a_solve_commits_once_and_the_traces_of_several_are_one_commit(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_GATHER_S", 60.0)
    steps: list[str] = []
    with (
        Ledger.open(settings.ledger_location, reached=steps.append) as ledger,
        Router(settings, model=ScriptedModel(mirrored), ledger=ledger) as router,
    ):
        router.solve(grid_task())
        router.flush()  # the first time it looks what may be pruned, too
        steps.clear()
        for seed in range(5):
            router.solve(grid_task(), seed=seed)
        solved = steps.count("after commit")
        router.flush()

    assert (solved, steps.count("after commit")) == (5, 6)


def test_a_trace_that_cannot_be_written_costs_no_answer_and_is_said_with_the_next(
    settings: Settings, ledger: Ledger
) -> None:
    ledger.traces = LockedLog(ledger._database, ledger._clock, ledger._now)
    with Router(settings, model=ScriptedModel(mirrored), ledger=ledger) as router:
        first = router.solve(grid_task())
        router.flush()
        second = router.solve(grid_task())

    assert first.degraded == ()
    assert first.answer == second.answer == mirrored(grid_task())
    assert [said for said in second.degraded if said.startswith("an earlier trace was not kept: ledger here")] != []
    assert len(ledger.latest(9)) == 2


def test_a_process_that_closes_nothing_leaves_all_its_traces(settings: Settings) -> None:
    code = NEVER_CLOSED.replace("HOME", str(settings.home))
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=240)

    with Ledger.open(settings.ledger_location) as ledger:
        assert ledger.traces.count() == 5
