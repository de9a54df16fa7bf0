"""From an empty ledger: a router that learns from a stream of tasks, and what it gets right for each second it takes.

It begins with a coin (either arm alike), at a price at which time is dear. Every 50 tasks a policy is fitted to what
came of them and promoted by hand, as with `ttt-router policy train` and `promote`: the gate, which asks for proof that
a policy is worth more, needs most of 600 tasks for that. With --gate it has its way.

    python examples/continual_learning.py                                      the 15 tasks of the demonstration
    python examples/continual_learning.py DATA/1d-arc --limit 600 --plot learning.png

The ledger is the memory: stopped and started again with the same --home, it goes on where it was. Without --home it is
in a new folder that is gone in the end; yours is not touched. DATA holds the public sets (docs/data.md). The plot needs
`pip install -c constraints.txt -e '.[report]'`. 600 tasks of single rows take some 25 minutes on two free cores; larger
grids take several times that.
"""

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from icl_engine.loaders import load_tasks, take
from icl_engine.task import LabelledTask
from policies.baselines import Uniform
from policies.ledger import Ledger
from policies.policy_versions import CHAMPION
from policies.records import DecisionRow
from router import Router, Settings
from router.bench.plots import require_plots
from router.demo import TASKS
from router.learned_policies import learner_of
from router.learning import Event, Learner

EVERY = 10  # tasks between two turns of the learning loop
BY_HAND = 50  # tasks between two policies that are promoted by hand; the first needs twice as many
WINDOW = 60  # tasks that a point of the plot looks back on
SETTINGS: dict[str, Any] = {
    "arms": ("icl", "ttt"),
    "price": 0.5,  # a training of mean length costs half a right answer: time is dear
    "epsilon": 0.1,  # of the tasks of what is learned; the coin before it explores with all
}


def stream_of(source: Path | None, limit: int | None) -> list[LabelledTask]:
    """Return the tasks in an order drawn once for all, kinds mixed."""
    tasks = [task for path in ([source] if source else sorted(TASKS.glob("*.json"))) for task in load_tasks(path)]
    tasks = tasks if limit is None else take(tasks, limit)
    return [tasks[i] for i in np.random.default_rng(0).permutation(len(tasks))]


def impatient(learner: Learner) -> Learner:
    """Take smaller steps than the defaults, which are made for thousands of tasks, and let a candidate lose accuracy
    where it saves what that is worth; that it is worth more must be shown as strictly.
    """
    learner.settings = replace(
        learner.settings,
        gate=replace(learner.settings.gate, accuracy_margin=0.2),
        least_rows=80,
        new_rows=60,
        shadow_decisions=30,
        canary_rows=30,
        canary_share=0.5,
    )
    return learner


def promoted_by_hand(learner: Learner, ledger: Ledger) -> list[Event]:
    """Fit a policy to all that is known and let it decide from now on, whatever the gate would say."""
    versions = ledger.policy_versions
    event = learner.train()
    if event is None or event.version_id is None:
        return []
    epoch = versions.alias(CHAMPION).epoch
    versions.promote(event.version_id, expected_epoch=epoch, reason="by hand: 600 tasks are few for the gate")
    return [event, Event("promoted", event.version_id, "by hand")]


def learn_from(tasks: Sequence[LabelledTask], ledger: Ledger, settings: Settings, *, gate: bool) -> None:
    """Solve what is not solved yet, say what was right, and let the loop take a turn now and then, and in the end."""
    done = {row.task_id for row in ledger.latest(len(tasks))}
    left = {labelled.task.id: labelled for labelled in tasks if labelled.task.id not in done}
    with Router(settings, ledger=ledger) as bare:
        learner = impatient(learner_of(settings, ledger, model_fingerprint=bare.model.fingerprint, first=Uniform()))
        with Router(settings, model=bare.model, ledger=ledger, policy=learner.policy) as router:
            for n, labelled in enumerate(left.values(), 1):
                solution = router.solve(labelled.task)
                router.feedback(solution.trace_id, answer=labelled.solutions, source="solution")
                if n % EVERY == 0 or n == len(left):
                    rows = solved(ledger)
                    by_hand = not gate and len(rows) >= 2 * BY_HAND and n % BY_HAND == 0
                    for event in [*(promoted_by_hand(learner, ledger) if by_hand else ()), *learner.step()]:
                        print(f"{len(rows):>4} {event.kind}: {event.reason[:100]}")
                    print(f"{len(rows):>4} {told(rows[-WINDOW:])}, decided by {learner.policy.name}")


def solved(ledger: Ledger) -> list[tuple[DecisionRow, float]]:
    """Return every decision with whether its answer was right, in the order of record."""
    rows = [row for _, row in ledger.decisions_after(0, limit=100_000)]
    said = ledger.outcomes_of([row.decision_id for row in rows])
    judged = {
        row.decision_id: [each.value for each in said[row.decision_id] if each.reported.judges_the_answer]
        for row in rows
    }
    return [(row, judged[row.decision_id][0]) for row in rows if judged[row.decision_id]]


def told(lately: Sequence[tuple[DecisionRow, float]]) -> str:
    """Say what came of some tasks."""
    right, seconds = sum(value for _, value in lately), sum(row.measured.seconds for row, _ in lately)
    n = len(lately)
    return f"of the last {n}: {right / n:.2f} right, {seconds / n:.2f} s a task, {right / seconds:.3f} right a second"


def draw(rows: Sequence[tuple[DecisionRow, float]], path: Path) -> None:
    """Draw what was right for each second, over the last tasks, and where another policy began to decide."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    right = np.array([value for _, value in rows])
    seconds = np.array([row.measured.seconds for row, _ in rows])
    ends = np.arange(1, len(rows) + 1)
    rate = [right[max(0, end - WINDOW) : end].sum() / seconds[max(0, end - WINDOW) : end].sum() for end in ends]
    figure, axes = pyplot.subplots(figsize=(8, 4))
    axes.plot(ends[EVERY:], rate[EVERY:])  # the rate of a handful of tasks says nothing
    names = [row.policy for row, _ in rows]
    for i, (before, after) in enumerate(pairwise(names), start=1):
        if before != after:
            axes.axvline(i, linestyle=":", color="grey")
            first, then = before.partition("@")[0], after.partition("@")[0]
            axes.annotate(then if first != then else "", (i, 0.02), rotation=90, va="bottom", ha="right", fontsize=9)
    axes.set_title("A dotted line is where another policy began to decide", loc="left", fontsize=9)
    axes.set_xlabel("tasks solved")
    axes.set_ylabel(f"right answers a second, last {WINDOW} tasks")
    axes.set_ylim(bottom=0)
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    """Read the arguments, learn, and say or draw what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="?", type=Path, help="file or folder of tasks with their solutions")
    parser.add_argument("--limit", type=int, help="take so many tasks, spread over the kinds")
    parser.add_argument("--home", type=Path, help="home folder; the same one goes on where it was; default: a new one")
    parser.add_argument("--plot", type=Path, help="where the plot goes, such as learning.png")
    parser.add_argument("--gate", action="store_true", help="let the gate promote, and nobody else")
    given = parser.parse_args()
    if given.plot is not None:
        require_plots()
    tasks = stream_of(given.tasks, given.limit)
    with nullcontext(given.home) if given.home else TemporaryDirectory() as home:
        settings = Settings(**SETTINGS, home=Path(home), ledger_url=None)
        with Ledger.open(settings.ledger_location, files=settings.policy_folder) as ledger:
            learn_from(tasks, ledger, settings, gate=given.gate)
            rows = solved(ledger)
        print(f"{len(rows)} tasks solved; {told(rows)}")
        if given.plot is not None:
            draw(rows, given.plot)
            print(f"Plot: {given.plot}")


if __name__ == "__main__":
    main()
