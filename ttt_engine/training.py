"""The training loop: tasks in, trained LoRAs out, many at once over one frozen base. Knows nothing of stores."""

from __future__ import annotations

import contextlib
import functools
import math
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import torch
from transformers import modeling_utils

from icl_engine.encoding import Encoded
from icl_engine.errors import ContextOverflow, FewShotError, OutOfMemory, released
from icl_engine.inference_settings import Precision
from icl_engine.leave_one_out import leave_one_out
from icl_engine.plain_llama import has_hooks
from icl_engine.task import Kind, Task
from icl_engine.transformers_model import TransformersModel, typed_out_of_memory
from ttt_engine.adaptation import Adaptation, adaptation_of
from ttt_engine.augmenters import Example
from ttt_engine.checks import Check, Verdict, early_verdict, final_verdict, held_out_at
from ttt_engine.config import LoraSettings, TrainingSettings
from ttt_engine.errors import AdapterRefused, TrainingFailed
from ttt_engine.last_layer import last_layer_at
from ttt_engine.llama_layers import LlamaLayers, Recurring
from ttt_engine.loss import Spans, target_spans
from ttt_engine.optimizer import StackedAdamW
from ttt_engine.precision import computing_in
from ttt_engine.training_data import in_turn, training_batches, typical_sequences

_EXPLODED = 5.0  # nats per token above the first loss; guessing evenly among the embedded model's 1,824 costs 7.5
# read in one pass, padding included, where tasks are trained together. Wider passes are slower on a CPU: on one core
# the embedded model took 6 to 37 % longer a token with 4,096 than with 1,024. Page faults, of which 1,024 cause none,
# are a part of that: with malloc told to keep its memory (glibc's tunables) it was 7 to 12 %, with 16,384 then 25 %
_PASS_TOKENS: dict[tuple[str, Precision], int] = {("cpu", "full"): 1_024, ("cpu", "bf16"): 2_048}
_PASS_TOKENS |= {("cuda", "full"): 65_536, ("cuda", "bf16"): 65_536}

Learned = tuple[Encoded, Spans]  # a sequence, and which of its tokens are learned
# lets layers be computed for the time of a with block, the last one at these places (rows, tokens), and gives the
# places as they have to be said of what comes out
ComputedAt = Callable[[torch.Tensor], contextlib.AbstractContextManager[torch.Tensor]]


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """One task to be trained on, or a family of tasks that share an adapter."""

    task: Task
    settings: TrainingSettings
    seed: int
    start: Mapping[str, torch.Tensor] | None = None  # an adapter to begin with, under PEFT's names; None: a fresh start
    deadline: float | None = None  # on the clock of time.monotonic; looked at before every step
    progress: Callable[[int, int, float], None] = lambda step, steps, loss: None  # steps done, steps, nats a token
    cancelled: Callable[[], bool] = lambda: False  # looked at before every step, as the deadline is
    alive: Callable[[], None] = lambda: None  # called now and then, also while others are trained before it
    family: tuple[Task, ...] = ()  # further tasks that the adapter is trained on, as much as on the first
    # nats per token of each demonstration held out, before training, of the first so many where they are known; those
    # that are lacking and will be looked at are scored
    untrained: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """What training on one task came to."""

    tensors: Mapping[str, torch.Tensor]  # of the adapter, under PEFT's names
    losses: tuple[float, ...]  # nats per output token, each step
    tokens: int  # read: in training, and in looks at held-out demonstrations before, during and after it
    seconds: float  # of the same passes; where several tasks share one, it is shared evenly
    checks: tuple[Check, ...] = ()  # looks at a held-out demonstration, where settings ask for them
    verdict: Verdict = ""  # "learned" and "gave up" stopped early


def train(model: TransformersModel, lora: LoraSettings, job: TrainingJob) -> TrainingRun:
    """Train on sequences made of the demonstrations of one task, as its settings choose.

    Raises:
        TooFewDemonstrations: the task has fewer than the form of data needs: two where one is left out, else one.
        TrainingFailed: the loss is not finite or explodes, memory or time runs out, a sequence is too long.
        AdapterRefused: the adapter to begin with is not one of this model and these settings.
    Source: Akyürek et al. 2024 (arXiv 2411.07279), sec. 3 (loss on all outputs after the first demonstration's).
    """
    (run,) = train_many(model, lora, [job])
    if not isinstance(run, TrainingRun):
        raise run
    return run


def train_many(
    model: TransformersModel, lora: LoraSettings, jobs: Sequence[TrainingJob], *, pass_tokens: int | None = None
) -> list[TrainingRun | FewShotError]:
    """Train on several tasks at once over the frozen base; each goes the way it would go alone (fp32: to rounding).

    Tasks of like length share a pass. As soon as one is done or fails, the next takes its slot. Where memory does not
    hold them side by side, fewer are trained at a time.

    Args:
        pass_tokens: tokens that one pass may read, padding included; at least one task is trained at a time.

    Returns:
        In the order of the jobs, what came of each: a run, or what `train` would raise.
    """
    done: dict[int, TrainingRun | FewShotError] = {}
    with model.lock:
        runs = []
        for place, job in enumerate(jobs):
            try:
                runs.append(_Run.of(model, job, place))
            except FewShotError as error:
                done[place] = released(error)
        for alike in _alike(runs):
            first = alike[0]
            limit = pass_tokens or _pass_tokens(model.device, first.job.settings.precision)
            n_slots = max(1, min(len(alike), int(limit / (first.length * first.job.settings.batch_size))))
            done.update(_train_alike(model, lora, alike, n_slots, [job.alive for job in jobs]))
    return [done[place] for place in range(len(jobs))]


def _pass_tokens(device: torch.device, precision: Precision) -> int:
    return _PASS_TOKENS.get((device.type, precision), _PASS_TOKENS["cpu", precision])


def _train_alike(
    model: TransformersModel, lora: LoraSettings, runs: list[_Run], n_slots: int, alive: Sequence[Callable[[], None]]
) -> dict[int, TrainingRun | FewShotError]:
    """Train runs that can share passes, the longest first; half as many at a time wherever memory runs out."""
    done: dict[int, TrainingRun | FewShotError] = {}
    while runs:
        loop = None
        try:
            with typed_out_of_memory():
                loop = _Loop(model, adaptation_of(model, lora, n_slots), runs[0], alive)
                loop.work_off(deque(runs))
        except OutOfMemory:
            if n_slots == 1:
                failed = next(run for run in runs if loop is None or run.place not in loop.done)
                done[failed.place] = TrainingFailed("out of memory", task_id=failed.job.task.id)
            n_slots = max(1, n_slots // 2)
        if loop is not None:
            done.update(loop.done)
        runs = [run.anew(model) for run in runs if run.place not in done]
    return done


@dataclass(slots=True)
class _Run:
    """One job on its way."""

    job: TrainingJob
    place: int  # among the jobs
    length: float  # mean tokens of a sequence
    steps: int
    untrained: tuple[float, ...] = ()  # nats per token of each demonstration looked at, before training
    batches: Iterator[list[Example]] = field(default_factory=lambda: iter(()))
    losses: list[float] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0
    checks: list[Check] = field(default_factory=list)

    @classmethod
    def of(cls, model: TransformersModel, job: TrainingJob, place: int) -> _Run:
        if job.family:  # a look would judge the first task alone, so that all steps are taken
            job = replace(job, settings=replace(job.settings, check_every=None))
        length = _sequence_tokens(model, job)
        steps = job.settings.steps_for(length)
        if steps:
            steps = max(steps, 1 + len(job.family))  # each task of a family has its turn
        if job.settings.check_every is not None and steps > 0:  # a budget of fewer steps still ends with a look
            job = replace(job, settings=replace(job.settings, check_every=min(job.settings.check_every, steps)))
        before = untrained_nll(model, job, steps)
        if not before.nll:  # then there are no looks
            job = replace(job, settings=replace(job.settings, check_every=None))
        run = cls(job, place, length, steps, before.nll, tokens=before.tokens, seconds=before.seconds)
        run.begin_period(model)
        return run

    def anew(self, model: TransformersModel) -> _Run:
        """Return this run as it was before its first step, and with what it has cost by now."""
        run = _Run(
            self.job, self.place, self.length, self.steps, self.untrained, tokens=self.tokens, seconds=self.seconds
        )
        run.begin_period(model)
        return run

    def begin_period(self, model: TransformersModel) -> None:
        """Draw the batches up to the next look, or all of them, from the demonstrations that are not held out."""
        settings, n_done = self.job.settings, len(self.losses)
        held_out, task = self.held_out, self.job.task
        seed, steps = self.job.seed, self.steps
        if held_out is not None and settings.check_every is not None:
            task = task.replace(
                demonstrations=tuple(shown for i, shown in enumerate(task.demonstrations) if i != held_out)
            )
            steps = min(settings.check_every, steps - n_done)
            seed += n_done  # another round over the same demonstrations draws anew
        batches = [
            training_batches(
                each,
                steps=steps,
                batch_size=settings.batch_size,
                seed=seed,
                fits=model.fits,
                data=settings.data,
                augmentation=settings.augmentation,
                max_sequences=settings.max_sequences,
            )
            for each in (task, *self.job.family)
        ]
        self.batches = in_turn(batches, steps)

    @property
    def held_out(self) -> int | None:
        """Which demonstration the coming step is not trained on."""
        return held_out_at(len(self.losses), len(self.job.task.demonstrations), self.job.settings.check_every)

    @property
    def repeats(self) -> bool:
        """Whether sequences are learned several times."""
        most = self.job.settings.max_sequences
        return most is not None and most < self.steps * self.job.settings.batch_size

    @property
    def kind(self) -> Kind | None:
        """Of the tasks; None where they are of several."""
        kinds = {task.kind for task in (self.job.task, *self.job.family)}
        return kinds.pop() if len(kinds) == 1 else None

    @property
    def is_due(self) -> bool:
        """Say whether a look at the held-out demonstration is due."""
        every = self.job.settings.check_every
        return every is not None and len(self.losses) % every == 0

    def question(self, model: TransformersModel) -> tuple[int, Learned]:
        """Return the demonstration that the steps before were not trained on, and its output to be scored."""
        n = len(self.job.task.demonstrations)
        held_out = held_out_at(len(self.losses) - 1, n, self.job.settings.check_every)
        assert held_out is not None  # `is_due` says so
        task, answer = list(leave_one_out(self.job.task))[held_out]
        encoded = model.encode(task, answer)
        return held_out, (encoded, encoded.outputs[-1:])

    @property
    def rate(self) -> float:
        """The learning rate of the step whose loss was taken last."""
        return self.job.settings.rate_at(len(self.losses) - 1, self.steps)

    def draw(self, row: int) -> int:
        """Return the seed of a row's dropout in the coming step, the same whatever is trained beside it."""
        return random.Random(f"dropout/{self.job.seed}/{len(self.losses)}/{row}").getrandbits(62)

    def next_batch(self, model: TransformersModel) -> list[Learned]:
        """Return the sequences of the coming step.

        Raises:
            TrainingFailed: time has run out, or nobody wants it any more.
            ContextOverflow: a sequence is longer than the context.
        """
        self._check_wanted()
        encoded = [model.encode(task, answer) for task, answer in next(self.batches)]
        return [(each, target_spans(each, self.job.settings.loss_on)) for each in encoded]

    def _check_wanted(self) -> None:
        done = f"after {len(self.losses)} of {self.steps} steps"
        if self.job.cancelled():
            raise TrainingFailed(f"cancelled {done}", gave_up=True, task_id=self.job.task.id)
        if self.job.deadline is not None and time.monotonic() > self.job.deadline:
            raise TrainingFailed(f"deadline reached {done}", gave_up=True, task_id=self.job.task.id)

    def take(self, loss: float) -> None:
        """Note the loss of a step.

        Raises:
            TrainingFailed: it is not finite, or far above the first.
        """
        self.losses.append(loss)
        if not math.isfinite(loss) or loss > self.losses[0] + _EXPLODED:
            raise TrainingFailed(f"loss became {loss:.3g} at step {len(self.losses)}", task_id=self.job.task.id)


def _alike(runs: Sequence[_Run]) -> list[list[_Run]]:
    """Group runs that can share passes: as many rows of each task, in one precision, learned among the same tokens,
    none twice as long as another; the longest first.
    """

    def kind(run: _Run) -> tuple[int, str, str, int]:
        settings = run.job.settings
        among = run.kind or "" if settings.softmax_over == "answers" else ""
        return settings.batch_size, settings.precision, among, int(math.log2(run.length))

    ordered = sorted(runs, key=lambda run: (kind(run), -run.length, run.place))
    return [list(group) for _, group in groupby(ordered, key=kind)]


class _Loop:
    """A stack of slots that a queue of runs passes through."""

    def __init__(
        self, model: TransformersModel, stack: Adaptation, like: _Run, alive: Sequence[Callable[[], None]]
    ) -> None:
        self.model = model
        self.stack = stack
        self.precision = like.job.settings.precision
        self.layers = LlamaLayers.of(model, stack, self.precision)
        kind = like.kind if like.job.settings.softmax_over == "answers" else None
        self.among = None if kind is None else model.encoding.answer_tokens(kind)
        self.alive = alive
        self.optimizer = StackedAdamW(stack.weights)
        self.live: dict[int, _Run] = {}  # by slot
        self.done: dict[int, TrainingRun | FewShotError] = {}  # by place

    def work_off(self, queue: deque[_Run]) -> None:
        """Train every run in the queue; what came of each is in `done`.

        Raises:
            RuntimeError: memory ran out, with the runs that are not in `done` broken off.
        """
        with self.stack.training():
            while queue or self.live:
                self._fill_slots(queue)
                self._step()
                for sign_of_life in self.alive:
                    sign_of_life()

    def _fill_slots(self, queue: deque[_Run]) -> None:
        for slot in range(self.stack.n_slots):
            while queue and slot not in self.live:
                run = queue.popleft()
                self.stack.reset(run.job.seed, slot)
                self.optimizer.reset(slot)
                self.live[slot] = run
                with self._failing_alone(slot):
                    if run.job.start is not None:
                        self.stack.fill(run.job.start, slot)
                    if run.job.settings.used_rank is not None:
                        self.stack.keep_rank(run.job.settings.used_rank, slot)
                    if run.steps == 0:
                        self._finish(slot, "")

    def _step(self) -> None:
        """Take one step in every live slot; what fails or is done leaves its slot."""
        began = time.perf_counter()
        batch: dict[int, list[Learned]] = {}
        for slot in sorted(self.live):
            with self._failing_alone(slot):
                batch[slot] = self.live[slot].next_batch(self.model)
        if not batch:
            return
        self._learn(batch)
        seconds = (time.perf_counter() - began) / len(batch)
        for slot in sorted(self.live):
            run = self.live[slot]
            run.tokens += sum(len(sequence.ids) for sequence, _ in batch[slot])
            run.seconds += seconds
            run.job.progress(len(run.losses), run.steps, run.losses[-1])
        self._check()
        for slot, run in sorted(self.live.items()):
            if len(run.losses) == run.steps:
                self._finish(slot, final_verdict(run.checks, len(run.job.task.demonstrations)))

    def _check(self) -> None:
        """Look at the held-out demonstration of every slot where that is due; what has learned or gives up leaves."""
        began = time.perf_counter()
        questions: dict[int, tuple[int, Learned]] = {}
        for slot in sorted(slot for slot, run in self.live.items() if run.is_due):
            with self._failing_alone(slot):
                questions[slot] = self.live[slot].question(self.model)
        if not questions:
            return
        self.stack.use(list(questions))
        with torch.no_grad():
            scores = _scores(self.model, [question for _, question in questions.values()])
        seconds = (time.perf_counter() - began) / len(questions)
        for (slot, (held_out, (encoded, _))), (nll, exact) in zip(questions.items(), scores, strict=True):
            run = self.live[slot]
            run.tokens += len(encoded.ids)
            run.seconds += seconds
            run.checks.append(Check(len(run.losses), held_out, nll, exact, run.untrained[held_out]))
            verdict = early_verdict(run.checks, len(run.job.task.demonstrations))
            if verdict:
                self._finish(slot, verdict)
            elif len(run.losses) < run.steps:
                run.begin_period(self.model)

    def _learn(self, batch: Mapping[int, list[Learned]]) -> None:
        """Move every slot along the gradient of its own mean loss; one whose loss is no use leaves instead."""
        rows = [(slot, row) for slot, sequences in batch.items() for row in range(len(sequences))]
        draws = [self.live[slot].draw(row) for slot, row in rows] if self.stack.settings.dropout else []
        self.stack.use([slot for slot, _ in rows], draws)
        sequences = [each for of_slot in batch.values() for each in of_slot]
        longest = max(len(encoded.ids) for encoded, _ in sequences)
        layers = self.layers if self.layers is not None and self.layers.take(len(rows), longest) else None
        with computing_in(self.precision, self.model.device, attending=layers is None):
            computed_at = None if layers is None else functools.partial(layers.at, recurring=self._recurring(batch))
            losses = losses_of(self.model, sequences, len(batch), computed_at=computed_at, among=self.among)
        kept = []
        for i, (slot, loss) in enumerate(zip(batch, losses.tolist(), strict=True)):
            with self._failing_alone(slot):
                self.live[slot].take(loss)
                kept.append(i)
        if not kept:
            return
        rates, max_norms = torch.zeros(self.stack.n_slots), torch.ones(self.stack.n_slots)
        for slot, run in self.live.items():
            rates[slot], max_norms[slot] = run.rate, run.job.settings.max_norm
        device = self.stack.weights.device
        gradients = self.stack.gradients(losses[kept].sum())
        self.optimizer.step(gradients, rates.to(device), max_norms.to(device))

    def _recurring(self, batch: Mapping[int, list[Learned]]) -> list[Recurring | None]:
        """Return of each row its slot and tokens, if the run learns sequences several times, or None."""
        return [
            (slot, encoded.ids) if self.live[slot].repeats else None
            for slot, sequences in batch.items()
            for encoded, _ in sequences
        ]

    def _left_by(self, slot: int) -> _Run:
        """Return the run that leaves a slot."""
        if self.layers is not None:
            self.layers.forget(slot)
        return self.live.pop(slot)

    def _finish(self, slot: int, verdict: Verdict) -> None:
        run = self._left_by(slot)
        if bool(torch.isfinite(self.stack.weights[slot]).all()):
            tensors, losses, checks = self.stack.tensors(slot), tuple(run.losses), tuple(run.checks)
            self.done[run.place] = TrainingRun(tensors, losses, run.tokens, run.seconds, checks, verdict)
        else:
            failed = TrainingFailed("a weight of the adapter is not finite", task_id=run.job.task.id)
            self.done[run.place] = failed

    def _fail(self, slot: int, failed: FewShotError) -> None:
        self.done[self._left_by(slot).place] = failed

    @contextlib.contextmanager
    def _failing_alone(self, slot: int) -> Iterator[None]:
        """Let a run that cannot go on leave its slot; the others go on."""
        try:
            yield
        except (TrainingFailed, AdapterRefused) as failed:
            self._fail(slot, failed.with_traceback(None))  # which leads to this loop and all it holds
        except ContextOverflow:
            task_id = self.live[slot].job.task.id
            self._fail(slot, TrainingFailed("a training sequence is longer than the context", task_id=task_id))


@dataclass(frozen=True, slots=True)
class Untrained:
    """How the demonstrations that will be looked at score before training, and what it took to tell."""

    nll: tuple[float, ...] = ()  # nats per token of each, held out; () where there are no looks
    tokens: int = 0
    seconds: float = 0.0


def untrained_nll(model: TransformersModel, job: TrainingJob, steps: int) -> Untrained:
    """Score before training the demonstrations that so many steps will look at, but for those whose score is known.

    There are no looks where one of these demonstrations does not fit the model.
    """
    n, every = len(job.task.demonstrations), job.settings.check_every
    if every is None or held_out_at(0, n, every) is None or steps == 0:
        return Untrained()
    n_looked = min(n, max(1, steps // every))  # fewer steps end with a look all the same
    known = job.untrained[:n_looked]
    began = time.perf_counter()
    asked = list(leave_one_out(job.task))[len(known) : n_looked]
    try:
        found = tuple(score.nll_per_token for score in model.score(asked)) if asked else ()
        tokens = sum(len(model.encode(task, answer).ids) for task, answer in asked)
    except (ContextOverflow, OutOfMemory):
        return Untrained()
    return Untrained((*known, *found), tokens, time.perf_counter() - began if asked else 0.0)


def losses_of(
    model: TransformersModel,
    sequences: Sequence[Learned],
    n_groups: int = 1,
    *,
    computed_at: ComputedAt | None = None,
    among: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the mean cross-entropy of each group, nats per learned token; (n_groups,).

    Args:
        sequences: as many of each group, group after group.
        computed_at: computes the layers, as `LlamaLayers.at`; None: transformers does, as `last_layer_at` lets it.
        among: the tokens that learned ones are told apart from, rising; None: all.

    Raises:
        ValueError: a learned token is not among these.
    """
    with _head_of(model.module, among):
        rows, logits, targets = _token_logits(model, sequences, computed_at)
    if among is not None:
        among, wanted = among.to(targets.device), targets
        targets = torch.searchsorted(among, wanted).clamp_max(len(among) - 1)
        if not torch.equal(among[targets], wanted):
            raise ValueError("a learned token is not among those that it is to be told apart from")
        logits = logits if logits.shape[1] == len(among) else logits[:, among]
    nll = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    group = rows // (len(sequences) // n_groups)
    sums = torch.zeros(n_groups, device=model.device).index_add(0, group, nll)
    return sums / torch.bincount(group, minlength=n_groups)


@contextlib.contextmanager
def _head_of(module: Any, tokens: torch.Tensor | None) -> Iterator[None]:
    """Let a model compute the logits of these tokens alone for the time of a with block, if its head is a plain linear
    layer; else of all.
    """
    head: Any = module.get_output_embeddings()
    if tokens is None or type(head) not in (torch.nn.Linear,) or has_hooks(head) or "forward" in vars(head):
        yield
        return
    tokens = tokens.to(head.weight.device)
    weight, bias = head.weight[tokens], None if head.bias is None else head.bias[tokens]
    head.forward = lambda hidden: torch.nn.functional.linear(hidden, weight, bias)
    try:
        yield
    finally:
        del head.forward


def _scores(model: TransformersModel, sequences: Sequence[Learned]) -> list[tuple[float, bool]]:
    """Return of each sequence the nats per learned token and whether every one of them was the likeliest."""
    rows, logits, targets = (each.cpu() for each in _token_logits(model, sequences))
    nll = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    right = logits.argmax(-1) == targets
    return [(float(nll[rows == row].mean()), bool(right[rows == row].all())) for row in range(len(sequences))]


def _token_logits(
    model: TransformersModel, sequences: Sequence[Learned], computed_at: ComputedAt | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return of every learned token the row it is in, the logits (fp32, a row a token) and which token it is."""
    ids, wanted = _right_padded(sequences, model.encoding.pad_id)
    rows, places = wanted.nonzero(as_tuple=True)
    mask = torch.arange(ids.shape[1]) < torch.tensor([len(sequence.ids) for sequence, _ in sequences])[:, None]
    saying = wanted.roll(-1, dims=1)  # the places that say which tokens come next
    with computed_at(saying) if computed_at else last_layer_at(model.module, saying) as kept:
        columns = kept.any(dim=0).nonzero()[:, 0]  # in which any sequence has such a place
        takes_mask = _takes_mask(model.module)
        logits = model.module(
            input_ids=ids.to(model.device),
            # what pads stands behind all that counts, where no token looks: attention needs no mask but the causal one
            attention_mask=torch.ones_like(ids).to(model.device),
            position_ids=model.encoding.positions(ids, mask.long()).to(model.device),
            use_cache=False,
            logits_to_keep=(kept if takes_mask else columns).to(model.device),
        ).logits  # (learned tokens, vocabulary) or (sequences, columns, vocabulary)
    if not takes_mask:
        logits = logits[kept[:, columns].to(model.device)]
    return rows.to(model.device), logits.float(), ids[rows, places].to(model.device)


def _takes_mask(module: Any) -> bool:
    """Say whether the model takes a mask of the places whose logits are wanted; all take a list of columns."""
    is_theirs = type(module).forward.__module__.startswith("transformers.")
    return is_theirs and hasattr(modeling_utils, "slice_logits_to_keep")


def _right_padded(sequences: Sequence[Learned], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and which of them are learned, both (sequences, longest)."""
    width = max(len(sequence.ids) for sequence, _ in sequences)
    ids = torch.full((len(sequences), width), pad_id)
    wanted = torch.zeros(len(sequences), width, dtype=torch.bool)
    for row, (sequence, spans) in enumerate(sequences):
        ids[row, : len(sequence.ids)] = torch.tensor(sequence.ids)
        for start, stop in spans:
            wanted[row, start:stop] = True
    return ids, wanted


def _sequence_tokens(model: TransformersModel, job: TrainingJob) -> float:
    """Return the mean length of the job's training sequences, in tokens; those too long for the context count."""
    settings = job.settings
    means = []
    for task in (job.task, *job.family):
        sequences = typical_sequences(
            task, seed=job.seed, fits=model.fits, data=settings.data, augmentation=settings.augmentation
        )
        lengths = [len(model.encoding.encode(shown, answer).ids) for shown, answer in sequences]
        means.append(sum(lengths) / len(lengths))
    return sum(means) / len(means)
