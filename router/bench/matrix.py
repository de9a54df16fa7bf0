"""Fills an outcome matrix: every arm on every task over seeds, resumable, then frozen into one hashed file.

What a row says an arm costs is what `solve` would have paid on an empty cache. The tasks of one file share their
demonstrations, and so one adapter: it is trained once for them all, and each is charged the whole training. `train_s`
is that part of the cost, which a cache would have saved. Where a process works on one thread, its seconds are those
that it ran, not those that it waited for other work on the machine.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from icl_engine.errors import TaskRefused, TooFewDemonstrations
from policies.decision import Arm
from policies.errors import ArmUnavailable, OutcomesRefused
from policies.features import FEATURE_NAMES, features_of
from policies.outcome_files import matrix_of, read_outcomes, write_outcomes
from policies.outcome_matrix import OutcomeMatrix
from policies.replay import PREDICTED_COST
from router.bench.task_sets import BenchTask
from router.evaluation_workers import Workers, append_lines, read_lines
from router.model_eval import describe
from router.settings import Settings
from ttt_engine.errors import TrainingFailed

if TYPE_CHECKING:
    from icl_engine.answer import Answer
    from icl_engine.probe import ProbeResult
    from icl_engine.task import LabelledTask
    from policies.features import Features
    from router.router import Router
    from router.solve_state import SolveState
    from router.steps import Steps
    from ttt_engine.engine import TttEngine
    from ttt_engine.trial import Trial

T = TypeVar("T")

ARMS = (Arm.ICL, Arm.ICL_VOTE, Arm.TTT_SHORT, Arm.TTT)
STAGE_COST = "stage_cost_s."  # before `votes` and `trial`: the columns of what these stages of features took
_AT_ONCE = 16  # tasks that share their demonstrations and are answered in one job: what a kill costs at most
_DIGITS = 6  # of a number that is kept: what is beyond them is noise of the clock


@dataclass(frozen=True, slots=True)
class Outcome:
    """One task answered by one arm under one seed."""

    model: str  # fingerprint
    settings: str  # what answers hang on, as text
    set: str
    family: str
    task: str
    seed: int
    arm: str
    quality: float  # share of the queries that are right: a grid by one of two candidates, a text by the first
    cost_s: float  # of the arm by itself, on an empty cache
    train_s: float
    tokens: int
    feature_cost_s: float  # of the probe: the answer in context and everything the features are read from
    features: Mapping[str, float | None]
    processes: int  # that ran beside each other
    answered_by: str
    degraded: tuple[str, ...]
    group: str = ""  # of tasks that share their demonstrations; default: the task

    @property
    def place(self) -> tuple[str, str, int, str]:
        return self.set, self.task, self.seed, self.arm


@dataclass(frozen=True, slots=True)
class Job:
    """Tasks that share their demonstrations, under one seed, and the arms each is still to be answered by."""

    tasks: tuple[BenchTask, ...]
    arms: tuple[tuple[str, ...], ...]  # of each task
    seed: int
    deadline_s: float | None
    processes: int
    model: str
    settings: str

    @property
    def n_outcomes(self) -> int:
        return sum(map(len, self.arms))


def fill(
    tasks: Sequence[BenchTask],
    settings: Settings,
    file: Path,
    *,
    arms: Sequence[str] = ARMS,
    seeds: Iterable[int] = (0, 1),
    processes: int = 1,
    deadline_s: float | None = None,
    stop_after_s: float | None = None,
    progress: Callable[[str, int, int], None] = lambda name, done, of: None,
) -> list[Outcome]:
    """Answer every task by every arm under every seed, but for what is in `file` already; add what is new to `file`.

    Args:
        processes: that work beside each other. Qualities do not hang on it; seconds are a user's only with one.
        deadline_s: of each answer, as in `solve`: after it training stops, and the answer in context counts.
        stop_after_s: begin nothing new after so long; another call goes on from there.
        progress: told of (what, outcomes done, outcomes to do).

    Returns:
        The outcomes in `file` of this model and these settings, those of earlier runs included.
    """
    model, said = describe(settings)
    about = model, f"{said}, deadline_s={deadline_s}, icl=prompt and answer"  # which was an even part of the probe
    groups = {
        (each.set, each.labelled.task.id): each.group for each in tasks
    }  # rows of before there were any have none
    outcomes = [
        replace(each, group=groups.get((each.set, each.task), each.group))
        for each in read_finished(file)
        if (each.model, each.settings) == about
    ]
    done = {each.place for each in outcomes}
    jobs = [job for seed in seeds for job in _jobs(tasks, tuple(arms), seed, deadline_s, processes, about, done)]
    n_done, n_all = 0, sum(job.n_outcomes for job in jobs)
    with Workers(settings, processes) as workers:
        for new in workers.each(_outcomes_of, jobs, stop_after_s=stop_after_s):
            append_lines(file, map(asdict, new))
            outcomes += new
            n_done += len(new)
            progress("outcomes", n_done, n_all)
    return outcomes


def read_finished(file: Path) -> list[Outcome]:
    """Read what is finished; nothing where there is no file."""
    return [replace(Outcome(**entry), degraded=tuple(entry["degraded"])) for entry in read_lines(file)]


def matrix_from(outcomes: Iterable[Outcome]) -> OutcomeMatrix:
    """Put outcomes together, in an order that does not hang on which was finished first."""
    ordered = sorted(outcomes, key=lambda each: (*each.place[:3], _order_of(each.arm)))
    said = ("set", "family", "task", "group", "seed", "arm", "quality", "cost_s", "train_s", "tokens", "feature_cost_s")
    firsts = {each.place[:3]: each for each in reversed(ordered)}  # the features are the same for every arm
    lines = []
    for each in ordered:
        first = firsts[each.place[:3]]
        numbers = {name: None if value is None else _rounded(value) for name, value in first.features.items()}
        line = {name: _rounded(getattr(each, name)) for name in said}
        lines.append({**line, "feature_cost_s": _rounded(first.feature_cost_s), **numbers})
    return matrix_of(lines)


def freeze(outcomes: Sequence[Outcome], path: Path, *, about: Mapping[str, str | int | float]) -> OutcomeMatrix:
    """Write the matrix of one run or more and, beside it, `<name>.json`: digest, what made it, how much went wrong."""
    matrix = matrix_from(outcomes)
    write_outcomes(matrix, path)
    card: dict[str, object] = {
        **about,
        "digest": matrix.digest,
        "rows": len(matrix),
        "tasks": {name: len({task for s, task in zip(matrix.sets, matrix.tasks, strict=True) if s == name})
                  for name in sorted(set(matrix.sets))},
        "processes": max(each.processes for each in outcomes),
        "degraded": sum(bool(each.degraded) for each in outcomes),
    }  # fmt: skip
    card_of(path).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return matrix


def read_frozen(path: Path, *, ignore: Sequence[str] = ()) -> tuple[OutcomeMatrix, str]:
    """Read a matrix, and what its card says of where it comes from; nothing where it has none, as other people's logs.

    Raises:
        OutcomesRefused: the file cannot be read, or is not the one that its card was written for.
    """
    matrix, card = read_outcomes(path, ignore=ignore), card_of(path)
    if not card.exists():
        return matrix, f"`{path.name}` has no card."
    about = json.loads(card.read_text(encoding="utf-8"))
    if about.get("digest") != matrix.digest:
        got = f"the outcomes have digest {matrix.digest[:16]}, and {card.name} names {str(about.get('digest'))[:16]}"
        raise OutcomesRefused(str(path), got, remedy="Restore the frozen file, or remove the card of another one.")
    said = ", ".join(f"{name} {about[name]}" for name in ("device", "processes", "settings") if name in about)
    return (
        matrix,
        f"`{path.name}`: model `{str(about.get('model'))[:16]}`, {said}; {about.get('degraded', 0)} degraded.",
    )


def card_of(path: Path) -> Path:
    """Return where the card of a matrix lies."""
    return path.with_name(path.name.partition(".")[0] + ".json")


def _jobs(
    tasks: Sequence[BenchTask],
    arms: tuple[str, ...],
    seed: int,
    deadline_s: float | None,
    processes: int,
    about: tuple[str, str],
    done: set[tuple[str, str, int, str]],
) -> list[Job]:
    """Put the tasks that share their demonstrations together, and shuffle: what is there when a run is stopped early is
    a fair part of the whole, and the time left is well guessed.
    """
    groups: dict[tuple[str, str], list[tuple[BenchTask, tuple[str, ...]]]] = {}
    for each in tasks:
        task = each.labelled.task
        left = tuple(arm for arm in arms if (each.set, task.id, seed, str(arm)) not in done)
        if left:
            groups.setdefault((each.set, task.demonstrations_fingerprint), []).append((each, left))
    parts = [group[i : i + _AT_ONCE] for group in groups.values() for i in range(0, len(group), _AT_ONCE)]
    random.Random(seed).shuffle(parts)
    return [
        Job(tuple(task for task, _ in part), tuple(left for _, left in part), seed, deadline_s, processes, *about)
        for part in parts
    ]


def _outcomes_of(router: Router, job: Job) -> list[Outcome]:
    """Answer the tasks of a job, all of them with one empty store of adapters."""
    steps = _steps_alone(router)
    outcomes, ran = [], dict[str, float]()
    for each, arms in zip(job.tasks, job.arms, strict=True):
        try:
            outcomes += _outcomes_of_task(steps, each, arms, job, ran)
        except TaskRefused:  # within the limit of this run, and too long for the model: it has no outcome
            continue
    return outcomes


def _outcomes_of_task(
    steps: Steps, each: BenchTask, arms: Sequence[str], job: Job, ran: dict[str, float]
) -> list[Outcome]:
    """Answer one task by each arm; `ran` holds, by arm, what part of its time a training that tasks share ran."""
    task = each.labelled.task
    for arm in arms:  # before anything is computed
        if arm not in steps.arms_there:
            raise ArmUnavailable(arm, steps.arms_there, task_id=task.id)
    probe, running = _timed(steps, lambda: steps.prober.probe(task, seed=job.seed))
    probe = replace(probe, seconds=probe.seconds * running, prompt_s=probe.prompt_s * running)
    features, running = _timed(steps, lambda: _features_of(steps, each, probe, job))
    features = {name: _scaled(name, value, running) for name, value in features.items()}
    outcomes = []
    for arm in arms:
        try:
            state, running = _timed(steps, lambda arm=arm: _solved(steps, each, arm, probe, job))  # type: ignore[misc]
        except ArmUnavailable:  # such as one for grids alone: it has no outcome
            continue
        if not state.get("adapter_cached", False):
            ran[arm] = running
        cost_s, train_s, tokens = _cost_of(state, probe, arm, running, ran.get(arm, running))
        outcomes.append(
            Outcome(
                model=job.model,
                settings=job.settings,
                set=each.set,
                family=each.family,
                task=task.id,
                seed=job.seed,
                arm=str(arm),
                quality=quality_of(state["answers"], each.labelled),
                cost_s=cost_s,
                train_s=train_s,
                tokens=tokens,
                feature_cost_s=probe.seconds,
                features=features,
                processes=job.processes,
                answered_by=str(state["answered_by"]),
                degraded=tuple(state.get("degraded", ())),
                group=each.group,
            )
        )
    return outcomes


def quality_of(answers: Sequence[Answer], labelled: LabelledTask) -> float:
    """Return the share of the queries that are right, of those whose solution is known.

    A grid may be answered by two candidates, as is the custom with ARC; a text, of which there may be only two, by one.
    """
    right = [
        known == answer.value if isinstance(known, str) else known in answer.values
        for answer, known in zip(answers, labelled.solutions, strict=True)
        if known is not None
    ]
    return sum(right) / len(right) if right else float("nan")


def numbers_of(features: Features) -> dict[str, float | None]:
    """Return the features as numbers by name, with the costs that were predicted for each arm."""
    numbers = {name: features.value(name) for name in FEATURE_NAMES}
    return numbers | {f"{PREDICTED_COST}{arm}": cost for arm, cost in features.predicted_cost_s}


def _steps_alone(router: Router) -> Steps:
    """Return the router's steps with nothing remembered: no ledger, no adapter and no score of an earlier task."""
    from icl_engine.probe import Prober

    steps = router.steps
    ttt = None if steps.ttt is None else _without_adapters(steps.ttt)
    prober, costs = Prober(steps.model, n_remembered=0), steps.costs.unlearned()
    return replace(steps, prober=prober, costs=costs, ledger=None, ttt=ttt, arms=tuple(ARMS))


def _features_of(steps: Steps, each: BenchTask, probe: ProbeResult, job: Job) -> dict[str, float | None]:
    """Return the features of every stage as they are before anything is trained, and what the later ones took."""
    from icl_engine.probe import ViewsRequest
    from router.steps import VIEWS_ASKED

    task, trial = each.labelled.task, None
    if steps.ttt is not None:
        steps = replace(steps, ttt=_without_adapters(steps.ttt))
        trial = _trial(steps, each, probe, job)
    known = _solved(steps, each, Arm.ICL, probe, job)["features"]
    closer = steps.prober.ask_views([ViewsRequest(task, probe, steps.prober.n_views or VIEWS_ASKED, job.seed)])[0]
    features = features_of(
        task, closer, adapter_cached=False, predicted_cost_s=dict(known.predicted_cost_s), trial=trial
    )
    stages = {
        f"{STAGE_COST}votes": closer.seconds - probe.seconds,
        f"{STAGE_COST}trial": 0.0 if trial is None else trial.seconds,
    }
    return numbers_of(features) | stages


def _trial(steps: Steps, each: BenchTask, probe: ProbeResult, job: Job) -> Trial | None:
    assert steps.ttt is not None
    try:
        return steps.ttt.trial(each.labelled.task, steps.training, seed=job.seed, untrained=probe.loo_nll)
    except (TooFewDemonstrations, TrainingFailed):  # a feature that is not known
        return None


def _without_adapters(ttt: TttEngine) -> TttEngine:
    from ttt_engine.engine import TttEngine
    from ttt_engine.stores import MemoryAdapterStore

    return TttEngine(ttt.model, MemoryAdapterStore(), ttt.lora)


def _solved(steps: Steps, each: BenchTask, arm: str, probe: ProbeResult, job: Job) -> SolveState:
    from router.graph import build_graph

    initial: SolveState = {
        "task": each.labelled.task,
        "forced_arm": arm,
        "seed": job.seed,
        "deadline": None if job.deadline_s is None else time.monotonic() + job.deadline_s,
        "progress": lambda name, done, of: None,
        "cancelled": lambda: False,
        "seat": None,
        "sharing": (),
        "prompting": None,
        "probed": probe,
    }
    state: Any = build_graph(replace(steps, costs=steps.costs.unlearned())).invoke(initial)
    solved: SolveState = state
    return solved


def _timed(steps: Steps, work: Callable[[], T]) -> tuple[T, float]:
    """Return what `work` returns, and the share of its time that it ran: below 1 where other work took the core."""
    import torch

    began, began_running = time.perf_counter(), time.process_time()
    done = work()
    if steps.ttt is None or steps.ttt.model.device.type != "cpu" or torch.get_num_threads() > 1:
        return done, 1.0
    return done, min(1.0, (time.process_time() - began_running) / (time.perf_counter() - began))


def _scaled(name: str, value: float | None, running: float) -> float | None:
    return value * running if value is not None and name.startswith(STAGE_COST) else value


def _cost_of(
    state: SolveState, probe: ProbeResult, arm: str, running: float, running_in_training: float
) -> tuple[float, float, int]:
    """Return the seconds of an arm by itself, those of its training, and its tokens, all on an empty cache.

    Args:
        probe: its seconds are those that it ran.
        running: share of the time that this answer ran.
        running_in_training: the same of the answer for which the adapter was trained.
    """
    if arm == Arm.ICL:
        return probe.prompt_s * len(probe.answers), 0.0, sum(answer.tokens for answer in probe.answers)
    seconds = {step.name: step.seconds for step in state["path"] if step.name != "probe"}
    train_s, tokens = seconds.pop("adapt", 0.0), state["tokens"] - probe.tokens
    adapter = state.get("adapter")
    if adapter is not None and state["adapter_cached"]:  # for an earlier query of the same file
        train_s, tokens = adapter.train_seconds, tokens + adapter.train_tokens
    train_s *= running_in_training
    return sum(seconds.values()) * running + train_s, train_s, tokens


def _order_of(arm: str) -> tuple[int, str]:
    return (tuple(Arm).index(Arm(arm)) if arm in tuple(Arm) else len(Arm), arm)


def _rounded(value: float | str) -> float | str:
    return float(np.format_float_positional(value, _DIGITS, fractional=False)) if isinstance(value, float) else value
