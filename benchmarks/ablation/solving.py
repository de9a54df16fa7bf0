"""A job done: the training it is about, and an answer by each of its variants. Runs in a worker process."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.ablation.jobs import SEED, Item, Job
from benchmarks.ablation.variants import Plan
from icl_engine.answer import Answer
from icl_engine.answering import Asked, ask_under_views, choose_answer
from icl_engine.errors import FewShotError
from icl_engine.inference_settings import InferenceSettings
from icl_engine.task import Task
from icl_engine.transformers_model import TransformersModel
from icl_engine.voting import oracle
from router.router import Router
from ttt_engine.adaptation import adaptation_of
from ttt_engine.auto import choose
from ttt_engine.checks import helps
from ttt_engine.config import LoraSettings
from ttt_engine.training import TrainingJob, TrainingRun, train

_IN_CONTEXT = InferenceSettings(n_views=1)


@dataclass(frozen=True, slots=True)
class Row:
    """What one variant made of one task."""

    variant: str
    key: str  # of what the answer hangs on (`jobs.Named`); rows that share it share an adapter
    set: str
    kind: str
    task_id: str
    right: tuple[bool, ...]  # of each query: by one of at most two candidates
    right_first: tuple[bool, ...]
    seen: tuple[bool, ...]  # by any view: what a perfect vote would come to
    train_s: float  # a task's share, where several share an adapter
    answer_s: float
    tokens: int  # read in training; a share likewise
    verdict: str  # of training on itself (ttt_engine.checks)
    failed: str  # why training came to nothing, and it was answered in context, or not even that; "": it did not
    commit: str = ""
    processes: int = 1  # that ran beside each other, each on its share of the cores
    processor: str = ""

    @classmethod
    def read(cls, entry: dict[str, Any]) -> Row:
        """Read what `asdict` made of one."""
        return cls(**{**entry, **{name: tuple(entry[name]) for name in ("right", "right_first", "seen")}})


def solve(router: Router, job: Job) -> list[Row]:
    """Train what the job is about, and answer its tasks by each of its variants."""
    model = router.model
    assert isinstance(model, TransformersModel), "the settings name no other"
    first = job.plans[0].plan
    trained = _train(model, first, [each.labelled.task for each in job.tasks])
    rows = []
    for item in job.tasks:
        answering, begun = _Answering(model, item, first.lora, trained), None
        for named in job.plans:
            if named.plan.adapter != "begun":
                rows.append(answering.row(named.name, named.key, named.plan))
                continue
            begun = begun or _Answering(model, item, first.lora, _train_on(model, named.plan, item, trained))
            rows.append(begun.row(named.name, named.key, named.plan))
    return rows


@dataclass(frozen=True, slots=True)
class _Trained:
    """What came of a training, as far as it is one task's."""

    run: TrainingRun | None  # None: nothing was to be trained, or it failed
    seconds: float = 0.0
    tokens: int = 0
    failed: str = ""

    @property
    def is_used(self) -> bool:
        return self.run is not None and helps(self.run.verdict)


class _Answering:
    """One task with one adapter; what was said under its views is kept for the next vote over it."""

    def __init__(self, model: TransformersModel, item: Item, lora: LoraSettings | None, trained: _Trained) -> None:
        self.model = model
        self.item = item
        self.lora = lora
        self.trained = trained
        self._said: dict[InferenceSettings, tuple[tuple[Asked, ...], float]] = {}

    def row(self, name: str, key: str, plan: Plan) -> Row:
        """Answer by one plan; in context where training came to nothing or found that it does not help.

        Where answering fails, too, nothing is right and the row says why.
        """
        began, failed = time.perf_counter(), self.trained.failed
        solutions = self.item.labelled.solutions
        right = right_first = seen = (False,) * len(solutions)
        try:
            answers, said, answer_s = self._answers(plan)
        except FewShotError as error:
            answer_s, failed = time.perf_counter() - began, f"{type(error).__name__}: {error}"
        else:
            right = tuple(known in answer.values for answer, known in zip(answers, solutions, strict=True))
            right_first = tuple(known == answer.value for answer, known in zip(answers, solutions, strict=True))
            votes = zip((each.votes for each in said), solutions, strict=True)
            seen = tuple(known is not None and oracle(each, known) for each, known in votes)
        return Row(
            variant=name,
            key=key,
            set=self.item.set,
            kind=self.item.kind,
            task_id=self.item.labelled.task.id,
            right=right,
            right_first=right_first,
            seen=seen,
            train_s=self.trained.seconds,
            answer_s=answer_s,
            tokens=self.trained.tokens,
            verdict="" if self.trained.run is None else self.trained.run.verdict,
            failed=failed,
        )

    def _answers(self, plan: Plan) -> tuple[list[Answer], tuple[Asked, ...], float]:
        """Return the answer of each query, what they were chosen from, and the seconds of both."""
        in_context = plan.adapter != "none" and not self.trained.is_used
        with self._adapted():
            said, ask_s = self._ask(_IN_CONTEXT if in_context else plan.asked)
            began = time.perf_counter()
            answers = [choose_answer(self.model, each, _IN_CONTEXT if in_context else plan.inference) for each in said]
        return answers, said, ask_s + time.perf_counter() - began

    def _ask(self, settings: InferenceSettings) -> tuple[tuple[Asked, ...], float]:
        if settings not in self._said:
            began = time.perf_counter()
            said = ask_under_views(self.model, self.item.labelled.task, settings, seed=SEED)
            self._said[settings] = said, time.perf_counter() - began
        return self._said[settings]

    @contextlib.contextmanager
    def _adapted(self) -> Iterator[None]:
        """Let the model answer with the adapter, if there is one to use."""
        if self.lora is None or self.trained.run is None or not self.trained.is_used:
            yield
            return
        with self.model.lock:
            adaptation = adaptation_of(self.model, self.lora)
            adaptation.fill(self.trained.run.tensors)
            with adaptation.merged():
                yield


def _train(model: TransformersModel, plan: Plan, tasks: Sequence[Task]) -> _Trained:
    """Train one adapter on the tasks: of several, as much on each as if it were alone, unless it is pooled."""
    if plan.training is None:
        return _Trained(None)
    n, settings = len(tasks), plan.training
    if plan.adapter == "pooled":
        settings = replace(settings, steps=max(n, settings.steps))  # as `TttEngine.adapt_shared`
    else:
        settings = replace(settings, steps=n * settings.steps, token_budget=n * settings.token_budget)
    return _run(model, plan.lora, TrainingJob(tasks[0], settings, SEED, family=tuple(tasks[1:])), n)


def _train_on(model: TransformersModel, plan: Plan, item: Item, shared: _Trained) -> _Trained:
    """Train a quarter of the steps on a task, beginning with what was trained on its block."""
    assert plan.training is not None, "a block's adapter was trained"
    if shared.run is None:
        return shared
    job = TrainingJob(item.labelled.task, plan.training.shortened(), SEED, start=shared.run.tensors)
    further = _run(model, plan.lora, job, 1)
    return replace(further, seconds=shared.seconds + further.seconds, tokens=shared.tokens + further.tokens)


def _run(model: TransformersModel, lora: LoraSettings | None, job: TrainingJob, n_tasks: int) -> _Trained:
    assert lora is not None, "what is trained has a shape"
    began, tokens = time.perf_counter(), 0
    try:
        if job.settings.auto and not job.family:
            choice = choose(model, lora, job)
            job, tokens = replace(job, settings=choice.training), choice.tokens
        run = train(model, lora, job)
    except FewShotError as error:
        return _Trained(None, (time.perf_counter() - began) / n_tasks, failed=f"{type(error).__name__}: {error}")
    return _Trained(run, (time.perf_counter() - began) / n_tasks, (tokens + run.tokens) // n_tasks)
