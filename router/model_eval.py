"""Evaluation of a model on public task sets it was never trained or tuned on: every task that fits, in context and
trained, into one resumable file of results. What the results say is put together in model_report.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from icl_engine.errors import UnreadableTaskFile
from icl_engine.inference_settings import InferenceSettings
from icl_engine.loaders import load_tasks, take
from icl_engine.task import LabelledTask
from policies.errors import ArmUnavailable
from router.checkout import commit_here
from router.evaluation_workers import Workers, append_lines, read_lines
from router.settings import Settings
from ttt_engine.config import LoraSettings, TrainingSettings

if TYPE_CHECKING:
    from icl_engine.encoding import Encoding
    from router.router import Router

GRID_SETS = {
    "1d-arc": "1d-arc/1d_arc.json",
    "concept-arc": "concept-arc/concept_arc_8_groups.json",
    "evaluation_80": "arc-agi-1/evaluation_80.json",
}
TEXT_SET = "bbh"  # a folder of files, each of which is one task with many queries
SETS = (*GRID_SETS, TEXT_SET)
ARMS = ("icl", "ttt")
SHOTS = 10  # of a text file, or as many as fit
_ALWAYS_SAID = ("n_views", "seed", "rank", "alpha", "steps", "batch_size", "learning_rate", "token_budget")
_UNCHOSEN = {**asdict(InferenceSettings()), **asdict(LoraSettings()), **asdict(TrainingSettings())}


@dataclass(frozen=True, slots=True)
class Result:
    """One query of one task, answered by one arm."""

    model: str  # fingerprint
    settings: str  # what answers hang on, as text
    set: str
    task_id: str
    query: int
    arm: str
    right: bool  # by one of at most two candidates
    right_first: bool
    seconds: float  # of the whole task, all its queries
    processes: int  # that ran beside each other; seconds count where there was one
    degraded: tuple[str, ...]
    commit: str = ""  # of the code that answered; "": it is not known
    shots: int | None = None  # demonstrations shown, of a text file; how many fit hangs on what is asked for

    @property
    def done(self) -> tuple[object, ...]:
        """What need not be done again."""
        alone = self.processes == 1
        return self.model, self.settings, self.set, self.task_id, self.shots, self.arm, alone, self.query


@dataclass(frozen=True, slots=True)
class Question:
    """A task to be answered by one arm, and what its results say of the run."""

    set: str
    labelled: LabelledTask
    arm: str
    model: str
    settings: str
    processes: int

    @property
    def shots(self) -> int | None:
        """How many demonstrations a text file is shown with."""
        return shots_of(self.set, self.labelled)

    @property
    def wanted(self) -> frozenset[tuple[object, ...]]:
        """What has to be done for it, one entry for each query whose solution is known; see `Result.done`."""
        alone = self.processes == 1
        place = self.model, self.settings, self.set, self.labelled.task.id, self.shots, self.arm, alone
        return frozenset((*place, i) for i, known in enumerate(self.labelled.solutions) if known is not None)


@dataclass(frozen=True, slots=True)
class TaskSet:
    """The tasks taken of one set, how many fit, and how many there are in all."""

    name: str
    tasks: tuple[LabelledTask, ...]
    n_fitting: int
    n_all: int


def shots_of(set_name: str, labelled: LabelledTask) -> int | None:
    """Return how many demonstrations a text file is shown with; None of a task that brings its own."""
    return len(labelled.task.demonstrations) if set_name == TEXT_SET else None


def within(encoding: Encoding, max_tokens: int) -> Callable[[LabelledTask], bool]:
    """Return what says whether every query of a task, with its solution, is at most so long."""

    def fits(labelled: LabelledTask) -> bool:
        task = labelled.task
        each = zip(range(len(task.queries)), labelled.solutions, strict=True)
        return all(len(encoding.encode(task.for_query(i), known).ids) <= max_tokens for i, known in each)

    return fits


def load_set(
    name: str,
    data: Path,
    *,
    fits: Callable[[LabelledTask], bool],
    limit: int | None = None,
    n_queries: int | None = None,
) -> TaskSet:
    """Read a set of tasks below `data` and keep those that `fits`; of text files, with as many demonstrations as fit.

    Args:
        n_queries: of a text file, the first so many; None: all.

    Raises:
        UnreadableTaskFile: the set is not there.
    """
    if name == TEXT_SET:
        files = sorted((data / TEXT_SET).glob("*.json"))
        if not files:
            raise UnreadableTaskFile(
                f"no files in {data / TEXT_SET}", field="data", remedy="Name the folder with --data."
            )
        found = [_text_task(file, fits, n_queries) for file in files]
        tasks = [labelled for labelled in found if labelled is not None]
        return TaskSet(name, tuple(tasks[:limit]), len(tasks), len(files))
    tasks = load_tasks(data / GRID_SETS[name])
    fitting = [labelled for labelled in tasks if fits(labelled)]
    return TaskSet(name, tuple(fitting if limit is None else take(fitting, limit)), len(fitting), len(tasks))


def _text_task(file: Path, fits: Callable[[LabelledTask], bool], n_queries: int | None = None) -> LabelledTask | None:
    """Make one task of a file: its first examples are the demonstrations, those from the eleventh on the queries."""
    rest = load_tasks(file, shots=SHOTS)[:n_queries]
    for n_shots in range(SHOTS, 1, -1):
        whole = rest[0].task.replace(
            demonstrations=rest[0].task.demonstrations[:n_shots],
            queries=tuple(labelled.task.query for labelled in rest),
        )
        whole = whole.model_copy(update={"id": file.stem})
        labelled = LabelledTask(whole, tuple(labelled.solutions[0] for labelled in rest))
        if fits(labelled):
            return labelled
    return None


def evaluate(
    sets: Iterable[TaskSet],
    settings: Settings,
    file: Path,
    *,
    arms: Sequence[str] = ARMS,
    processes: int = 1,
    progress: Callable[[str, int, int], None] = lambda name, done, of: None,
) -> list[Result]:
    """Answer every task of `sets` by every arm, but for those in `file` already; add what is new to `file`.

    Args:
        processes: that work beside each other, each on its share of the processor's cores. Accuracy does not hang on
            it; seconds are those of a user only with one.
        progress: told of (set, tasks done, tasks to do).

    Returns:
        All results in `file`, those of earlier runs included.
    """
    about, commit = describe(settings), commit_here()
    results = read_results(file)
    done = {result.done for result in results}
    with Workers(settings, processes) as workers:
        for tasks in sets:
            asked = (Question(tasks.name, labelled, arm, *about, processes) for labelled in tasks.tasks for arm in arms)
            left = [each for each in asked if not each.wanted <= done]
            for n_done, found in enumerate(workers.each(_answer, left), 1):
                new = [replace(result, commit=commit) for result in found]
                results += new
                append_lines(file, map(asdict, new))  # a task whole, or not
                progress(tasks.name, n_done, len(left))
    return results


def describe(settings: Settings) -> tuple[str, str]:
    """Return the fingerprint of the model and, as text, the settings that its answers hang on."""
    from icl_engine.language_model import load_model

    model = load_model(settings.model, device=settings.device, dtype=settings.dtype, grid_form=settings.grid_form)
    preset = settings.ttt(model.n_parameters, bfloat16=model.prefers_bfloat16)
    grid, text = asdict(preset.training), asdict(preset.training_for("text"))
    of_text = {f"text_{name}": value for name, value in text.items() if value != grid[name]}
    chosen = {**asdict(settings.inference), **asdict(preset.lora), **grid, **of_text, "seed": settings.seed}
    # what is as it was before it could be chosen is not said, so that results stay comparable as choices are added
    said = {name: value for name, value in chosen.items() if name in _ALWAYS_SAID or value != _UNCHOSEN.get(name)}
    return model.fingerprint, ", ".join(f"{name}={value}" for name, value in sorted(said.items()))


def read_results(file: Path) -> list[Result]:
    """Read a file of results; none where there is no file."""
    return [replace(Result(**entry), degraded=tuple(entry["degraded"])) for entry in read_lines(file)]


def _answer(router: Router, question: Question) -> list[Result]:
    labelled, there = question.labelled, router.steps.arms_there
    if question.arm not in there:
        raise ArmUnavailable(question.arm, there, task_id=labelled.task.id)
    try:
        solution = router.solve(labelled.task, arm=question.arm)
    except ArmUnavailable:  # such as one for grids alone
        return []
    return [
        Result(
            model=question.model,
            settings=question.settings,
            set=question.set,
            task_id=labelled.task.id,
            query=i,
            arm=question.arm,
            right=known in answer.values,
            right_first=known == answer.value,
            seconds=solution.cost.seconds,
            processes=question.processes,
            degraded=solution.degraded,
            shots=question.shots,
        )
        for i, (answer, known) in enumerate(zip(solution.answers, labelled.solutions, strict=True))
        if known is not None
    ]
