"""What came of many labelled tasks, counted per kind of task and in all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich import box
from rich.table import Table
from rich.text import Text

from icl_engine.loaders import task_kind
from icl_engine.task import Value
from router.solution import Solution
from router.values_shown import printable, verdict


@dataclass(slots=True)
class _Count:
    n: int = 0
    solved: int = 0
    first_right: int = 0
    seconds: float = 0.0
    arms: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Tally:
    """Counts solved tasks. A task is solved where every known query is right by one of at most two candidates."""

    kinds: dict[str, _Count] = field(default_factory=dict)
    all: _Count = field(default_factory=_Count)

    def add(self, solution: Solution, solutions: Sequence[Value | None]) -> None:
        """Count one task; without a known solution it is not counted."""
        judged = verdict(solution.answers, solutions)
        if judged is None:
            return
        for count in (self.kinds.setdefault(task_kind(solution.task.id), _Count()), self.all):
            count.n += 1
            count.solved += judged.right
            count.first_right += judged.right_first
            count.seconds += solution.cost.seconds
            count.arms[solution.arm] += 1

    def table(self) -> Table:
        """Return one row per kind, and one for all where there are several kinds."""
        table = Table(box=box.SIMPLE_HEAD, show_footer=len(self.kinds) > 1)
        columns = (("kind", _name("all")), ("solved", _share(self.all.solved, self.all.n)))
        for header, footer in (*columns, ("first right", _share(self.all.first_right, self.all.n))):
            table.add_column(header, footer, justify="left" if header == "kind" else "right", no_wrap=header != "kind")
        table.add_column("mean seconds", _mean(self.all), justify="right")
        table.add_column("arms", _arms(self.all))
        for kind, count in self.kinds.items():
            solved, first = _share(count.solved, count.n), _share(count.first_right, count.n)
            table.add_row(_name(kind or "tasks"), solved, first, _mean(count), _arms(count))
        return table


def _name(kind: str) -> Text:
    return Text(printable(kind))


def _share(n: int, of: int) -> str:
    return f"{n}/{of} {n / of if of else 0:4.0%}"


def _mean(count: _Count) -> str:
    return f"{count.seconds / count.n if count.n else 0:.2f}"


def _arms(count: _Count) -> Text:
    return Text(", ".join(f"{printable(arm)} {n}" for arm, n in sorted(count.arms.items())))
