"""The demonstration: bundled real tasks solved as the router decides, always in context, and always by training.

Every figure it prints is measured as it runs. The three ways share the model and nothing else: each has a store and a
ledger of its own, so that none profits from another's adapters.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from icl_engine.loaders import load_tasks
from icl_engine.task import LabelledTask
from router.progress import SolvingProgress
from router.render import SolutionView
from router.router import Router
from router.settings import Settings
from router.solution import Solution
from router.values_shown import verdict

TASKS = Path(__file__).parent / "demo_data"
WAYS = ("router", "always icl", "always ttt")
_FORCED = {"router": None, "always icl": "icl", "always ttt": "ttt"}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One task, solved each way."""

    labelled: LabelledTask
    solutions: dict[str, Solution]

    def is_right(self, way: str) -> bool:
        """Say whether either candidate is right."""
        judged = verdict(self.solutions[way].answers, self.labelled.solutions)
        return judged is not None and judged.right


def run_demo(console: Console, seed: int) -> int:
    """Solve the bundled tasks in the three ways, print the comparison, return the exit code."""
    tasks = [task for name in ("arc_agi_1.json", "1d_arc.json") for task in load_tasks(TASKS / name)]
    console.print(
        f"{len(tasks)} tasks the embedded model has never seen, each solved three ways: as the router decides, always "
        "in context (icl), always by training at test time (ttt). This takes a few minutes.\n"
    )
    with tempfile.TemporaryDirectory(prefix="ttt-router-demo-") as home:
        compared = _compare(tasks, Path(home), seed, console)
    for comparison in _telling(compared):
        solution = comparison.solutions["router"]
        console.print(SolutionView(solution, comparison.labelled.solutions), highlight=False)
    console.print(_table(compared))
    console.print(_totals(compared))
    console.print(
        "✓: one of at most two candidates is the solution (pass@2). Try your own: ttt-router solve FILE --arm ttt"
    )
    return 0


def _compare(tasks: Sequence[LabelledTask], home: Path, seed: int, console: Console) -> list[Comparison]:
    """Solve every task each way, with a fresh store and ledger per way; into a pipe, a line a task."""
    settings = Settings(seed=seed, store_url="local:", ledger_url=None)
    first = Router(settings.model_copy(update={"home": home / "0"}))
    routers = {
        way: first if i == 0 else Router(settings.model_copy(update={"home": home / str(i)}), model=first.model)
        for i, way in enumerate(WAYS)
    }
    compared = []
    try:
        with SolvingProgress(Console(stderr=True), len(tasks)) as progress:
            for labelled in tasks:
                solutions = {
                    way: router.solve(labelled.task, arm=_FORCED[way], progress=progress.stage)
                    for way, router in routers.items()
                }
                compared.append(Comparison(labelled, solutions))
                with progress.task_done():
                    if not console.is_terminal:
                        seconds = sum(solution.cost.seconds for solution in solutions.values())
                        console.print(f"{len(compared)} of {len(tasks)}: {labelled.task.id}, {seconds:.1f} s")
    finally:
        for router in routers.values():
            router.close()
    return compared


def _telling(compared: Sequence[Comparison]) -> list[Comparison]:
    """Return, where there are such, the first task that was solved in context and the first that took training."""
    in_context = [each for each in compared if each.is_right("router") and each.solutions["router"].arm == "icl"]
    trained = [
        each
        for each in compared
        if each.is_right("router") and each.solutions["router"].arm == "ttt" and not each.is_right("always icl")
    ]
    return in_context[:1] + trained[:1]


def _table(compared: Sequence[Comparison]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="What the router did, and what the two others made of the same tasks")
    for name in ("task", "arm", *(way.removeprefix("always ") for way in WAYS)):
        table.add_column(name, no_wrap=True)
    table.add_column("why the router chose this arm")
    for each in compared:
        chosen = each.solutions["router"]
        marks = [_mark(each.is_right(way), each.solutions[way].cost.seconds) for way in WAYS]
        reason = Text(chosen.reason)
        if chosen.degraded:
            reason.append(f" ! {'; '.join(chosen.degraded)}", style="yellow")
        table.add_row(each.labelled.task.id, chosen.arm, *marks, reason)
    return table


def _totals(compared: Sequence[Comparison]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("way")
    for name in ("solved", "trained", "seconds", "seconds a task"):
        table.add_column(name, justify="right")
    for way in WAYS:
        n_right = sum(each.is_right(way) for each in compared)
        n_trained = sum(each.solutions[way].arm.startswith("ttt") for each in compared)
        seconds = sum(each.solutions[way].cost.seconds for each in compared)
        table.add_row(
            way,
            f"{n_right}/{len(compared)}",
            f"{n_trained}/{len(compared)}",
            f"{seconds:.1f}",
            f"{seconds / len(compared):.1f}",
        )
    return table


def _mark(right: bool, seconds: float) -> Text:
    return Text(f"{'✓' if right else '✗'} {seconds:4.1f} s", style="green" if right else "red")
