"""What is compared: a variant trains on every task and answers it. Ours are here, pairs of a way to train and a way to
answer; what others would do is in `peers`.

All variants are given the same tasks, sequences, steps and first adapter, and answer the same views with the same vote.
"""

from __future__ import annotations

import contextlib
import functools
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any, Literal, cast

import torch

from benchmarks.throughput.floor import synchronize
from benchmarks.throughput.subject import Subject
from icl_engine.answer import Answer
from icl_engine.answering import answer_by_vote, answer_many_by_vote, reading_as
from icl_engine.inference_settings import InferenceSettings, Precision
from icl_engine.language_model import Generation, LanguageModel, OutputScore, RowAdapters
from icl_engine.task import LabelledTask, Task, Value
from icl_engine.transformers_model import TransformersModel
from ttt_engine.config import LoraSettings, TrainingSettings
from ttt_engine.engine import mixes_adapters
from ttt_engine.lora import LoraStack
from ttt_engine.loss import target_spans
from ttt_engine.training import TrainingJob, TrainingRun, train, train_many
from ttt_engine.training_data import training_batches

Column = Literal["peer", "exact", "approximate"]
Tensors = Mapping[str, torch.Tensor]

ONCE = "once"  # the stage of what a run does for all tasks to come: it does not count

_UNBOUNDED = 2**40  # tokens: every task gets all its steps


@dataclass(frozen=True, slots=True)
class Setting:
    """What every variant is given alike."""

    lora: LoraSettings
    training: TrainingSettings
    n_views: int
    start: Tensors  # the adapter that all training begins with, under PEFT's names
    seed: int = 0
    views_precision: Precision = "full"
    vote: Literal["hierarchical", "scored"] = "hierarchical"

    @classmethod
    def of(
        cls, model: TransformersModel, lora: LoraSettings, training: TrainingSettings, *, n_views: int, seed: int = 0
    ) -> Setting:
        """Draw the first adapter; every task gets all its steps."""
        stack = LoraStack(model, lora)
        stack.reset(seed)
        return cls(lora, replace(training, token_budget=_UNBOUNDED), n_views, stack.tensors(), seed)

    @property
    def inference(self) -> InferenceSettings:
        """How tasks are answered."""
        return InferenceSettings(n_views=self.n_views, vote=self.vote, views_precision=self.views_precision)

    def with_steps(self, steps: int) -> Setting:
        """Return the setting with another number of steps."""
        return replace(self, training=replace(self.training, steps=max(1, steps)))


@dataclass(frozen=True, slots=True)
class TrainingSequence:
    """One training sequence as tokens."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]  # -100 where nothing is learned


@dataclass(frozen=True, slots=True)
class Solved:
    """What a variant made of the tasks."""

    answers: tuple[tuple[Answer, ...], ...]  # of each task, of each of its queries
    adapters: tuple[Tensors, ...]  # of each task, under PEFT's names
    losses: tuple[float, ...]  # of each task, nats a learned token, mean over its steps
    task_s: tuple[float, ...]  # of each task; its share where tasks are trained together


@dataclass(slots=True)
class Stages:
    """Where the time of a run goes, what passed through the model, and how long the answers were."""

    device: torch.device
    seconds: dict[str, float] = field(default_factory=dict)
    passed_tokens: dict[str, int] = field(default_factory=dict)  # padding included
    rows: list[tuple[int, int]] = field(default_factory=list)  # (tokens of the prompt, tokens written), each answer
    _stage: str = ""

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the time of a with block to a stage."""
        synchronize(self.device)
        began, before = perf_counter(), self._stage
        self._stage = stage
        try:
            yield
        finally:
            synchronize(self.device)
            self.seconds[stage] = self.seconds.get(stage, 0.0) + perf_counter() - began
            self._stage = before

    @contextlib.contextmanager
    def watching(self, module: Any) -> Iterator[None]:
        """Count the tokens that pass through a module."""
        handle = module.register_forward_pre_hook(self._count, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    def listening(self, model: object) -> LanguageModel:
        """Return the language model, with the lengths of what it says noted."""
        return cast(LanguageModel, _Listening(cast(LanguageModel, model), self.rows))

    def _count(self, module: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        ids = named.get("input_ids", given[0] if given else None)
        if ids is not None:
            self.passed_tokens[self._stage] = self.passed_tokens.get(self._stage, 0) + ids.numel()


Run = Callable[[Subject, Sequence[Task], Setting, Stages], Solved]


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to solve tasks, by name."""

    name: str
    column: Column
    about: str
    run: Run
    other_steps: bool = False  # so that its mean loss says nothing beside the others'


def sequences_of(model: TransformersModel, task: Task, setting: Setting) -> list[TrainingSequence]:
    """Return the sequences that training goes through, in order, `batch_size` a step."""
    training = setting.training
    batches = training_batches(
        task,
        steps=training.steps,
        batch_size=training.batch_size,
        seed=setting.seed,
        fits=model.fits,
        data=training.data,
        augmentation=training.augmentation,
        max_sequences=training.max_sequences,
    )
    found = []
    for example in (each for batch in batches for each in batch):
        encoded = model.encode(*example)
        labels = [-100] * len(encoded.ids)
        for start, stop in target_spans(encoded, training.loss_on):
            labels[start:stop] = encoded.ids[start:stop]
        found.append(TrainingSequence(encoded.ids, tuple(labels)))
    return found


def n_solved(answers: Sequence[Sequence[Answer]], tasks: Sequence[LabelledTask]) -> int:
    """Count the tasks all of whose queries are answered right by one of at most two candidates."""
    return sum(
        all(known in answer.values for answer, known in zip(each, labelled.solutions, strict=True))
        for each, labelled in zip(answers, tasks, strict=True)
    )


def difference(adapter: Tensors, other: Tensors) -> float:
    """Return how far the weights of two adapters are apart, in the norm, relative to the second."""
    apart = sum(float((adapter[name].float() - known.float().cpu()).square().sum()) for name, known in other.items())
    return float((apart / sum(float(known.float().square().sum()) for known in other.values())) ** 0.5)


# Ours: a way to train, and a way to answer with what was trained. Another variant is another pair.

Train = Callable[[TransformersModel, Sequence[Task], Setting], list[TrainingRun]]
AnswerAll = Callable[[Subject, Sequence[Task], Sequence[Tensors], Setting, Stages], list[tuple[Answer, ...]]]


def train_one_by_one(model: TransformersModel, tasks: Sequence[Task], setting: Setting) -> list[TrainingRun]:
    """Train on one task after the other."""
    return [train(model, setting.lora, _job(task, setting)) for task in tasks]


def train_together(
    model: TransformersModel, tasks: Sequence[Task], setting: Setting, *, pass_tokens: int | None = None
) -> list[TrainingRun]:
    """Train on as many tasks at once as a pass holds.

    Args:
        pass_tokens: that a pass holds; None: what the engine takes by itself.
    """
    runs = train_many(model, setting.lora, [_job(task, setting) for task in tasks], pass_tokens=pass_tokens)
    trained = []
    for run in runs:
        if not isinstance(run, TrainingRun):
            raise run
        trained.append(run)
    return trained


def answer_merged(
    subject: Subject, tasks: Sequence[Task], adapters: Sequence[Tensors], setting: Setting, stages: Stages
) -> list[tuple[Answer, ...]]:
    """Answer one task after the other, its adapter added to the weights."""
    return _answer_one_by_one(subject, tasks, adapters, setting, stages, merged=True)


def answer_beside(
    subject: Subject, tasks: Sequence[Task], adapters: Sequence[Tensors], setting: Setting, stages: Stages
) -> list[tuple[Answer, ...]]:
    """Answer one task after the other, its adapter computed beside the weights."""
    return _answer_one_by_one(subject, tasks, adapters, setting, stages, merged=False)


def answer_together(
    subject: Subject,
    tasks: Sequence[Task],
    adapters: Sequence[Tensors],
    setting: Setting,
    stages: Stages,
    *,
    verify: bool = False,
) -> list[tuple[Answer, ...]]:
    """Answer all tasks in one batch, each row with its own task's adapter beside the weights.

    Args:
        verify: write one view's answer and check it in the others.
    """
    model, slots = subject.model, range(len(tasks))
    stack = LoraStack(model, setting.lora, len(tasks))
    for slot, adapter in enumerate(adapters):
        stack.fill(adapter, slot)
    settings = replace(setting.inference, verify=verify)
    with stack.active(), reading_as(model, settings):
        return answer_many_by_vote(
            stages.listening(model), tasks, settings, RowAdapters(slots, stack.use), seed=setting.seed
        )


def ours(train_all: Train, answer_all: AnswerAll) -> Run:
    """Make a run of a way to train and a way to answer, on the model that is loaded already."""

    def run(subject: Subject, tasks: Sequence[Task], setting: Setting, stages: Stages) -> Solved:
        model = subject.model
        with stages.watching(model.module):
            with stages("train"):
                runs = train_all(model, tasks, setting)
            before = stages.seconds.get("answer", 0.0)
            with stages("answer"):
                answers = answer_all(subject, tasks, [each.tensors for each in runs], setting, stages)
        answer_s = (stages.seconds["answer"] - before) / len(tasks)
        return Solved(
            tuple(answers),
            tuple(each.tensors for each in runs),
            tuple(statistics.mean(each.losses) for each in runs),
            tuple(each.seconds + answer_s for each in runs),
        )

    return run


def with_steps(run: Run, share: float) -> Run:
    """Return a run with a share of the steps."""
    return lambda subject, tasks, setting, stages: run(
        subject, tasks, setting.with_steps(round(share * setting.training.steps)), stages
    )


def with_training(run: Run, **changed: Any) -> Run:
    """Return a run with other settings of training."""
    return lambda subject, tasks, setting, stages: run(
        subject, tasks, replace(setting, training=replace(setting.training, **changed)), stages
    )


def as_routed(run: Run) -> Run:
    """Return a run with products in the precision that the router takes on the subject's processor."""

    def chosen(subject: Subject, tasks: Sequence[Task], setting: Setting, stages: Stages) -> Solved:
        precision: Precision = "bf16" if subject.model.prefers_bfloat16 else "full"
        return with_training(run, precision=precision)(subject, tasks, setting, stages)

    return chosen


def shortened(run: Run) -> Run:
    """Return a run with the training of the arm `ttt_short`."""
    return lambda subject, tasks, setting, stages: run(
        subject, tasks, replace(setting, training=setting.training.shortened()), stages
    )


def narrowed(run: Run, times_the_rate: float = 2.0) -> Run:
    """Return a run with half the sequences a step, at so many times the rate."""

    def halved(training: TrainingSettings) -> TrainingSettings:
        half, budget = max(1, training.batch_size // 2), max(1, training.token_budget // 2)
        rate = times_the_rate * training.learning_rate
        return replace(training, batch_size=half, token_budget=budget, learning_rate=rate)

    return lambda subject, tasks, setting, stages: run(
        subject, tasks, replace(setting, training=halved(setting.training)), stages
    )


def on_top_layers(run: Run, n_layers: int) -> Run:
    """Return a run whose LoRAs are on the last so many layers, and begin as they would among all."""

    def fewer(setting: Setting, model: TransformersModel) -> Setting:
        lora = replace(setting.lora, top_layers=n_layers)
        names = LoraStack(model, lora).tensors()
        return replace(setting, lora=lora, start={name: setting.start[name] for name in names})

    return lambda subject, tasks, setting, stages: run(subject, tasks, fewer(setting, subject.model), stages)


def leaned(run: Run) -> Run:
    """Return a run on half as many different sequences, softmax over answers, views in bfloat16 where the model prefers
    it.
    """

    def leaner(subject: Subject, setting: Setting) -> Setting:
        training = setting.training
        different = max(1, training.steps * max(1, training.batch_size // 2) // 2)  # half of what it reads, narrowed
        return replace(
            setting,
            training=replace(training, max_sequences=different, softmax_over="answers"),
            views_precision="bf16" if subject.model.prefers_bfloat16 else "full",
        )

    return lambda subject, tasks, setting, stages: run(subject, tasks, leaner(subject, setting), stages)


def scored(run: Run) -> Run:
    """Return a run whose candidates are scored under all views."""
    return lambda subject, tasks, setting, stages: run(subject, tasks, replace(setting, vote="scored"), stages)


def with_views(run: Run, n_views: int) -> Run:
    """Return a run with at most so many views."""
    return lambda subject, tasks, setting, stages: run(
        subject, tasks, replace(setting, n_views=min(n_views, setting.n_views)), stages
    )


def answer_as_solved(
    subject: Subject, tasks: Sequence[Task], adapters: Sequence[Tensors], setting: Setting, stages: Stages
) -> list[tuple[Answer, ...]]:
    """Answer as `Router.solve_many` does: in one batch on a GPU, with one adapter in the weights after the other on a
    CPU.
    """
    answer = answer_together if mixes_adapters(subject.device) else answer_merged
    return answer(subject, tasks, adapters, setting, stages)


_TOGETHER = ours(train_together, answer_as_solved)
_AS_ROUTED = as_routed(_TOGETHER)
_SHORT = shortened(_AS_ROUTED)
_LEAN = leaned(on_top_layers(narrowed(_AS_ROUTED, 1.5), 3))
QUICKER = ("short", "narrow", "narrow, top layers", "lean", "lean, scored", "shorter")  # ours, compared everywhere
IN_BF16 = "bf16"  # left out, as the peer's, where the subject does not prefer it, unless it is asked for
OURS: tuple[Variant, ...] = (
    Variant(
        "one by one",
        "exact",
        "the base is kept, no Trainer, the head only where a token is learned; trained and answered one by one",
        ours(train_one_by_one, answer_merged),
    ),
    Variant(
        "together, beside",
        "exact",
        "trained together; answered one by one, adapters beside the weights",
        ours(train_together, answer_beside),
    ),
    Variant(
        "together",
        "exact",
        "trained together; answered one by one, adapters merged into the weights: as `Router.solve_many` on a CPU",
        ours(train_together, answer_merged),
    ),
    Variant(
        "all together",
        "exact",
        "trained together and answered together, each row with its own adapter: as `Router.solve_many` on a GPU",
        ours(train_together, answer_together),
    ),
    Variant(
        "wide passes",
        "exact",
        "as `all together`, with passes of 4,096 tokens in training",
        ours(functools.partial(train_together, pass_tokens=4_096), answer_together),
    ),
    Variant(
        "verified",
        "exact",
        "as `all together`, one view written and checked in the others",
        ours(train_together, functools.partial(answer_together, verify=True)),
    ),
    Variant(
        IN_BF16,
        "approximate",
        "products of training in bfloat16; answered as `together` on a CPU, as `all together` elsewhere",
        with_training(_TOGETHER, precision="bf16"),
    ),
    Variant(
        "half the steps",
        "approximate",
        "answered so, in the precision that the router takes, with half the steps",
        with_steps(_AS_ROUTED, 0.5),
        other_steps=True,
    ),
    Variant(
        "short",
        "approximate",
        "in that precision, as the arm `ttt_short`: a quarter of the steps",
        _SHORT,
        other_steps=True,
    ),
    Variant(
        "narrow",
        "approximate",
        "in that precision, all steps, each of half the sequences, at 1.5 times the rate",
        narrowed(_AS_ROUTED, 1.5),
        other_steps=True,
    ),
    Variant(
        "narrow, top layers",
        "approximate",
        "as `narrow`, with LoRAs on the last three layers alone",
        on_top_layers(narrowed(_AS_ROUTED, 1.5), 3),
        other_steps=True,
    ),
    Variant(
        "lean",
        "approximate",
        "as `narrow, top layers`, on half as many different sequences, each told from what answers may be made of "
        "alone, views read in bfloat16 where the processor prefers it",
        _LEAN,
        other_steps=True,
    ),
    Variant(
        "lean, scored",
        "approximate",
        "as `lean`, candidates scored under all views, where the others count votes",
        scored(_LEAN),
        other_steps=True,
    ),
    Variant(
        "shorter",
        "approximate",
        "as `short`, each step of half the sequences, at twice the rate",
        narrowed(_SHORT),
        other_steps=True,
    ),
    Variant(
        "shorter, four views",
        "approximate",
        "the same, with four views",
        with_views(narrowed(_SHORT), 4),
        other_steps=True,
    ),
    Variant(
        "early stop",
        "approximate",
        "as half the steps, but all of them, with a look at a held-out demonstration every four steps; what does not "
        "help is answered with, too",
        with_training(_AS_ROUTED, check_every=4),
        other_steps=True,
    ),
)


class _Listening:
    """A language model that notes how long prompts and answers were."""

    def __init__(self, model: LanguageModel, rows: list[tuple[int, int]]) -> None:
        self._model = model
        self._rows = rows

    def fits(self, task: Task, answer: Value | None = None) -> bool:
        return self._model.fits(task, answer)

    def generate(self, tasks: Sequence[Task], **options: Any) -> list[Generation]:
        said = self._model.generate(tasks, **options)
        self._rows += [(each.prompt_tokens, len(each.token_log_probabilities)) for each in said]
        return said

    def score(self, answered: Sequence[tuple[Task, Value]], **options: Any) -> list[OutputScore]:
        return self._model.score(answered, **options)


def _answer_one_by_one(
    subject: Subject,
    tasks: Sequence[Task],
    adapters: Sequence[Tensors],
    setting: Setting,
    stages: Stages,
    *,
    merged: bool,
) -> list[tuple[Answer, ...]]:
    model = subject.model
    stack, listening = LoraStack(model, setting.lora), stages.listening(model)
    answers = []
    for task, adapter in zip(tasks, adapters, strict=True):
        stack.fill(adapter)
        with stack.merged() if merged else stack.active(), reading_as(model, setting.inference):
            answers.append(answer_by_vote(listening, task, seed=setting.seed, settings=setting.inference))
    return answers


def _job(task: Task, setting: Setting) -> TrainingJob:
    return TrainingJob(task, setting.training, setting.seed, setting.start)
