"""In the lanes of a service, who has come further is served first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from icl_engine.scripted_model import ScriptedModel
from policies.fixed import AlwaysArm
from router.lanes import Lanes
from router.router import Router
from router.settings import Settings
from tests.router.fakes import grid_task, mirrored
from ttt_engine.lane import Lane, LaneSeat


class Watched(Lane):
    """Keeps the seats that were taken."""

    def __init__(self) -> None:
        super().__init__()
        self.seats: list[LaneSeat] = []

    def seat(
        self, check: Callable[[], None] = lambda: None, spent: Callable[[float], None] = lambda seconds: None
    ) -> LaneSeat:
        self.seats.append(super().seat(check, spent))
        return self.seats[-1]


def test_who_was_probed_is_served_before_those_who_were_not(folder: Path, tmp_path: Path) -> None:
    lanes = Lanes()
    lanes.probing = Watched()
    with Router(Settings(home=tmp_path), model=ScriptedModel(mirrored), policy=AlwaysArm("icl_vote")) as router:
        solution = router.solve_among(grid_task(), lanes)

    assert solution.answered_by == "icl_vote"
    assert [seat.n_served for seat in lanes.probing.seats] == [1, 2]
