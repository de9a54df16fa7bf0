"""Training at test time, whole: find or train a task's adapter, and answer with it on the model."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from safetensors.torch import save

from icl_engine.answer import Answer
from icl_engine.answering import answer_by_vote, answer_many_by_vote
from icl_engine.errors import ContextOverflow, FewShotError, OutOfMemory, TaskRefused, released
from icl_engine.inference_settings import InferenceSettings
from icl_engine.language_model import RowAdapters
from icl_engine.pass_lock import without_team
from icl_engine.task import Task
from icl_engine.transformers_model import TransformersModel, typed_out_of_memory
from ttt_engine.adaptation import Adaptation, adaptation_of
from ttt_engine.adapter import DEFAULT_TENANT, Adapter, AdapterSpec, family_fingerprint, kin_of
from ttt_engine.auto import Choice, choose
from ttt_engine.checks import LEAST_DEMONSTRATIONS
from ttt_engine.cohort import Seat
from ttt_engine.config import LoraSettings, TrainingSettings
from ttt_engine.errors import AdapterRefused, DeadlinePassed, TrainingFailed
from ttt_engine.neighbours import Neighbours
from ttt_engine.stores import AdapterStore, SingleFlight, TieredAdapterStore
from ttt_engine.stores.layout import tensor_layout
from ttt_engine.stores.sketch import likeness, nearest, sketch_of
from ttt_engine.training import TrainingJob, TrainingRun, train, train_many
from ttt_engine.trial import TRIAL_STEPS, Trial, trial_job, trial_of

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_LONGEST_LINEAGE = 16
_SKETCHES_KEPT = 256
_RELATIVES_TRIED = 3  # sketches may outlive their adapters


@dataclass(frozen=True, slots=True)
class Adapted:
    """An adapter and how it was come by."""

    adapter: Adapter
    cached: bool  # not trained by this call: it was in the store, or another solve was training it
    degraded: tuple[str, ...]  # what went wrong with the store on the way
    waited: bool = False  # for another solve that was training it


@dataclass(frozen=True, slots=True)
class AnswerRequest:
    """A task to be answered with its adapter."""

    task: Task
    adapter: Adapter
    settings: InferenceSettings
    seed: int = 0


class TttEngine:
    """Adapts one base model to tasks, one at a time or side by side.

    The base weights are shared by all tasks and never written. Of several that want the same adapter at the same time
    one trains and the others wait for it.

    Args:
        tenant: whose adapters these are; the store should be that tenant's.
        warm_start: how alike (0 to 1) the task of a kept adapter must be for training to begin with it; None: training
            always begins afresh.
    """

    def __init__(
        self,
        model: TransformersModel,
        store: AdapterStore,
        lora: LoraSettings | None = None,
        *,
        tenant: str = DEFAULT_TENANT,
        warm_start: float | None = None,
        flight: SingleFlight | None = None,
    ) -> None:
        self.model = model
        self.store = store if isinstance(store, TieredAdapterStore) else TieredAdapterStore([store])
        self.lora = lora or LoraSettings()
        self.tenant = tenant
        self.warm_start = warm_start
        self.flight = flight or SingleFlight(self.store.leases)
        self._neighbours: Neighbours | None = None  # filled from the store when it is first asked for
        self._sketches: dict[str, tuple[int, ...]] = {}  # of demonstrations that tasks share, by fingerprint

    def spec(self, task: Task, training: TrainingSettings, *, seed: int) -> AdapterSpec:
        """Return all that makes the task's adapter what it is."""
        return AdapterSpec(
            task.demonstrations_fingerprint,
            self.model.fingerprint,
            self.lora,
            training,
            seed,
            self.tenant,
            start="fresh" if self.warm_start is None else "relatives",
        )

    def key(self, task: Task, training: TrainingSettings, *, seed: int) -> str:
        """Return the key under which the task's adapter is kept."""
        return self.spec(task, training, seed=seed).key

    def shared_spec(self, tasks: Sequence[Task], training: TrainingSettings, *, seed: int) -> AdapterSpec:
        """Return all that makes the one adapter of these tasks what it is: of a family, or of the only task there is.

        Raises:
            TaskRefused: there is no task.
        """
        family = _family(tasks)
        spec = self.spec(family[0], training, seed=seed)
        return replace(spec, task=family_fingerprint(family), start="fresh") if len(family) > 1 else spec

    def is_cached(self, task: Task, training: TrainingSettings, *, seed: int, family: Sequence[Task] = ()) -> bool:
        """Say whether an adapter for exactly this task, or the one of its family, is at hand.

        Raises:
            StoreUnavailable: none is where one can look, and a part of the store cannot be read.
        """
        return self.shared_spec(family or (task,), training, seed=seed).key in self.store

    def nearest_distance(self, task: Task) -> float | None:
        """Return how far the nearest task is that an adapter is known of: 1 - the likeness of their sketches, 0 to 1.

        0 is this task or its like, 1 one that has nothing in common with it. Needs no model and, after the first time,
        no store: known are the adapters that the store had then, and those that this engine trained or found since, 512
        at most. None where none is known.
        """
        if self._neighbours is None:
            neighbours = Neighbours()
            kin = self.spec(task, TrainingSettings(), seed=0).kin
            for key, sketch in sorted(self.store.sketches(kin).items()):
                neighbours.add(key, sketch)
            self._neighbours = neighbours
        return self._neighbours.distance(self._sketch_of(task)) if len(self._neighbours) else None

    def _sketch_of(self, task: Task) -> tuple[int, ...]:
        """Return the sketch of a task, which takes longer than all else that is looked up of it."""
        key = task.demonstrations_fingerprint
        sketch = self._sketches.get(key)
        if sketch is None:
            sketch = sketch_of(task)
            if len(self._sketches) >= _SKETCHES_KEPT:
                self._sketches = {}  # at once: whoever reads the old ones meanwhile misses nothing
            self._sketches[key] = sketch
        return sketch

    def trial(
        self,
        task: Task,
        training: TrainingSettings,
        *,
        seed: int,
        steps: int = TRIAL_STEPS,
        untrained: Sequence[float] = (),
        deadline: float | None = None,
        cancelled: Callable[[], bool] = lambda: False,
        seat: Seat | None = None,
    ) -> Trial | None:
        """Take the first steps of a training and say what they do for a held-out demonstration; None: none is spared.

        Args:
            untrained: nats per token of each demonstration held out, before training, where they are known.
            seat: in a cohort, whose members are trained together.

        Raises:
            TooFewDemonstrations: `task` has fewer than the form of data needs.
            TrainingFailed: the steps could not be taken, or not in time.
        """
        if len(task.demonstrations) < LEAST_DEMONSTRATIONS:
            return None
        job = trial_job(task, training, seed=seed, steps=steps, untrained=untrained, deadline=deadline)
        return trial_of(self._run(replace(job, cancelled=cancelled), seat))

    def adapt(
        self,
        task: Task,
        training: TrainingSettings,
        *,
        seed: int,
        deadline: float | None = None,
        cancelled: Callable[[], bool] = lambda: False,
        progress: Callable[[int, int, float], None] = lambda step, steps, loss: None,
        on_fault: Callable[[str], None] = lambda told: None,
        seat: Seat | None = None,
        untrained: Sequence[float] = (),
        start: Adapter | None = None,
    ) -> Adapted:
        """Return the task's adapter from the store, or train it and keep it.

        A store that fails costs a training run, never an answer, and is told of in `degraded`.

        Args:
            cancelled: looked at before every training step, and while another trains it.
            on_fault: told at once of what is told of in `degraded`, so also where this raises.
            seat: in a cohort, whose members are trained together.
            untrained: nats per token of each demonstration held out, before training, where they are known: what looks
                at a held-out demonstration compare with.
            start: the adapter that training begins with, as that of a family of tasks; what comes of it is kept under
                a key of its own. None: as the engine does by itself.

        Raises:
            AdapterRefused: `start` is of another base model, shape or tenant.
            TooFewDemonstrations: `task` has fewer than the form of data needs: two where one is left out, else one.
            TrainingFailed: no usable adapter came of it, or time ran out while another solve was training it.
            Cancelled: it was, while another solve was training it.
        """
        spec = self.spec(task, training, seed=seed)
        job = TrainingJob(task, training, seed, deadline=deadline, progress=progress, untrained=tuple(untrained))
        job = replace(job, cancelled=cancelled)
        if start is not None:
            if not _is_kin(start, spec.kin):
                raise AdapterRefused(
                    "the adapter to begin with is of another base model, shape or tenant. Give one that was trained "
                    "with these.",
                    task_id=task.id,
                )
            spec = replace(spec, start=f"{start.key} {start.sha256}")
        return self._adapt(job, spec, on_fault=on_fault, seat=seat, start=start)

    def adapt_shared(
        self,
        tasks: Sequence[Task],
        training: TrainingSettings,
        *,
        seed: int,
        deadline: float | None = None,
        cancelled: Callable[[], bool] = lambda: False,
        progress: Callable[[int, int, float], None] = lambda step, steps, loss: None,
        on_fault: Callable[[str], None] = lambda told: None,
    ) -> Adapted:
        """Return one adapter for a family of tasks, from the store or trained on the demonstrations of all in turn.

        It answers any of them, and is kept beside the tasks' own. The steps of `training` are shared by the tasks,
        one for each at least, and all of them are taken: there are no looks at what is held out. It begins afresh, and
        no training begins with it by itself (see `adapt`, `start`); a family of one is that task.

        Raises:
            TaskRefused: there is no task.
            TooFewDemonstrations: a task has fewer than the form of data needs.
            TrainingFailed, Cancelled: as for `adapt`.
        """
        spec = self.shared_spec(tasks, training, seed=seed)
        first, *others = _family(tasks)
        job = TrainingJob(
            first,
            training,
            seed,
            deadline=deadline,
            progress=progress,
            cancelled=cancelled,
            family=tuple(others),
        )
        return self._adapt(job, spec, on_fault=on_fault, seat=None)

    def _adapt(
        self,
        job: TrainingJob,
        spec: AdapterSpec,
        *,
        on_fault: Callable[[str], None],
        seat: Seat | None,
        start: Adapter | None = None,
    ) -> Adapted:
        degraded: list[str] = []
        trained = False

        def note(told: tuple[str, ...]) -> None:
            for each in told:
                if each not in degraded:
                    degraded.append(each)
                    on_fault(each)

        def find() -> Adapter | None:
            found = self._find(spec.key)
            note(found[1])
            return found[0]

        def make(renew: Callable[[], None]) -> Adapter:
            nonlocal trained
            trained = True

            sketch = () if job.family else sketch_of(job.task)  # no family is like a task
            relative, told = (start, ()) if start is not None else self._relative(spec, sketch)
            note(told)
            adapter = self._train(replace(job, alive=renew), spec, sketch, relative, seat=seat)
            note(self.store.keep(adapter))
            self._know(adapter)
            return adapter

        found = find()
        if found is not None:
            return Adapted(found, True, tuple(degraded))
        waiting = (lambda: None) if seat is None else seat.leave
        adapter = self.flight.run(
            spec.key, find=find, make=make, deadline=job.deadline, cancelled=job.cancelled, waiting=waiting
        )
        return Adapted(adapter, not trained, tuple(degraded), waited=not trained)

    def answer(
        self,
        task: Task,
        adapter: Adapter,
        *,
        n_views: int | None = None,
        seed: int = 0,
        merged: bool = True,
        settings: InferenceSettings | None = None,
        seat: Seat | None = None,
    ) -> tuple[Answer, ...]:
        """Answer each query of the task with the adapter on the model, by a vote over augmented prompts.

        Args:
            n_views: at most so many, in place of the settings' number.
            merged: add the adapter to the weights while answering (faster), or compute it beside them: same answers,
                but for rounding where the weights are in half precision.
            seat: in a cohort, whose members are answered together.

        Raises:
            AdapterRefused: the adapter does not fit the model.
            ContextOverflow: the task does not fit the model.
            OutOfMemory: it holds too much; adapters are added to a second copy of the weights.
        """
        settings = settings or InferenceSettings()
        if n_views is not None:
            settings = replace(settings, n_views=n_views)
        if seat is not None:
            return seat.ask(self.answer_many, AnswerRequest(task, adapter, settings, seed))
        with self.model.lock, typed_out_of_memory():
            stack = self._stack_of(adapter)
            with stack.merged() if merged else stack.active():
                return answer_by_vote(self.model, task, seed=seed, settings=settings)

    def answer_many(self, requests: Sequence[AnswerRequest]) -> list[tuple[Answer, ...] | Exception]:
        """Answer several tasks, each with its own adapter; the same answers as one by one.

        On a GPU all are answered in one batch, adapters beside the weights. On a CPU one adapter after the other is
        added to the weights, and what shares it is answered in one batch.

        Returns:
            In the order of the requests, the answers or what kept them from being given.
        """
        results: dict[int, tuple[Answer, ...] | Exception] = {}
        mixed = mixes_adapters(self.model.device)
        alike: dict[tuple[InferenceSettings, int, str], list[int]] = {}
        for i, each in enumerate(requests):
            alike.setdefault((each.settings, each.seed, "" if mixed else each.adapter.key), []).append(i)
        for (settings, seed, _), places in alike.items():
            # rows of one batch cannot have different models, and a search knows of one adapter
            together = len(places) > 1 and settings.decode == "greedy" and self.lora.method != "full"
            answer = self._answer_together if together else self._answer_one_by_one
            results.update(zip(places, answer([requests[i] for i in places], settings, seed), strict=True))
        return [results[i] for i in range(len(requests))]

    def _answer_one_by_one(
        self, requests: Sequence[AnswerRequest], settings: InferenceSettings, seed: int
    ) -> list[tuple[Answer, ...] | Exception]:
        results: list[tuple[Answer, ...] | Exception] = []
        for each in requests:
            try:
                results.append(self.answer(each.task, each.adapter, seed=seed, settings=settings))
            except Exception as error:  # of the one who asked for this
                results.append(released(error))
        return results

    def _answer_together(
        self, requests: Sequence[AnswerRequest], settings: InferenceSettings, seed: int
    ) -> list[tuple[Answer, ...] | Exception]:
        try:
            return self._answer_side_by_side(requests, settings, seed)
        except (ContextOverflow, OutOfMemory):  # one of them does not fit; or all need more than one by one
            pass  # what the failed pass held is let go first
        return self._answer_one_by_one(requests, settings, seed)

    def _answer_side_by_side(
        self, requests: Sequence[AnswerRequest], settings: InferenceSettings, seed: int
    ) -> list[tuple[Answer, ...] | Exception]:
        """Answer all in the same passes.

        Raises:
            OutOfMemory: they hold too much.
            ContextOverflow: a task does not fit the model under any of the paper's views.
        """
        slots = {key: slot for slot, key in enumerate(dict.fromkeys(each.adapter.key for each in requests))}
        refused: dict[int, Exception] = {}
        with self.model.lock, typed_out_of_memory():
            stack = adaptation_of(self.model, self.lora, len(slots))
            for i, each in enumerate(requests):
                try:
                    self._fill(stack, each.adapter, slots[each.adapter.key])
                    if settings.views != "paper":  # whose views are shorter than the task
                        for place in range(len(each.task.queries)):
                            self.model.encode(each.task.for_query(place))
                except (AdapterRefused, ContextOverflow) as error:
                    refused[i] = released(error)
            asked = [i for i in range(len(requests)) if i not in refused]
            adapters = RowAdapters([slots[requests[i].adapter.key] for i in asked], stack.use)
            tasks = [requests[i].task for i in asked]
            with stack.active() if mixes_adapters(self.model.device) else stack.merged():
                answers = answer_many_by_vote(self.model, tasks, settings, adapters, seed=seed)
        answered = dict(zip(asked, answers, strict=True))
        return [refused.get(i) or answered[i] for i in range(len(requests))]

    def _find(self, key: str) -> tuple[Adapter | None, tuple[str, ...]]:
        fetched = self.store.fetch(key)
        if fetched.adapter is None:
            return None, fetched.degraded
        try:
            with without_team():  # nor the model's lock: a fetch waits for no training
                self._stack_of(fetched.adapter)
        except AdapterRefused as error:  # a store of somebody else's may vouch for anything
            return None, (*fetched.degraded, str(error))
        self._know(fetched.adapter)
        return fetched.adapter, fetched.degraded

    def _know(self, adapter: Adapter) -> None:
        if self._neighbours is not None:
            self._neighbours.add(adapter.key, adapter.sketch)

    def _train(
        self,
        job: TrainingJob,
        spec: AdapterSpec,
        sketch: tuple[int, ...],
        relative: Adapter | None,
        *,
        seat: Seat | None,
    ) -> Adapter:
        job = replace(job, start=None if relative is None else _tensors(relative))
        by_curve = spec.training.auto and not job.family  # the curve of one task says nothing of the others
        tuned = choose(self.model, self.lora, job) if by_curve else Choice(spec.training, untrained=job.untrained)
        run = self._run(replace(job, settings=tuned.training, untrained=tuned.untrained), seat)
        return Adapter(
            key=spec.key,
            weights=save(dict(run.tensors)),
            peft_config=self._peft_config,
            base_fingerprint=spec.base,
            task_fingerprint=spec.task,
            losses=run.losses,
            train_seconds=run.seconds + tuned.seconds,
            train_tokens=run.tokens + tuned.tokens,
            verdict=run.verdict,
            spec=spec.document,
            sketch=sketch,
            parents=() if relative is None else (relative.key, *relative.parents)[:_LONGEST_LINEAGE],
        )

    @functools.cached_property
    @without_team()
    def _peft_config(self) -> str:
        return adaptation_of(self.model, self.lora).peft_config()

    def _run(self, job: TrainingJob, seat: Seat | None) -> TrainingRun:
        if seat is None:
            return train(self.model, self.lora, job)
        before_s, steps_done = seat.seconds, list[tuple[int, int]]()

        def progress(step: int, steps: int, loss: float) -> None:
            steps_done[:] = [(step, steps)]
            job.progress(step, steps, loss)

        try:
            return seat.ask(self._run_all, replace(job, progress=progress))
        except DeadlinePassed as error:  # the lane does not wait for others that are trained beside it
            if seat.seconds == before_s:
                raise  # it was not its turn yet
            done = "after {} of {} steps".format(*steps_done[0]) if steps_done else "before the first step was done"
            raise TrainingFailed(f"deadline reached {done}", gave_up=True, task_id=job.task.id) from error

    def _run_all(self, jobs: Sequence[TrainingJob]) -> Sequence[TrainingRun | FewShotError]:
        return train_many(self.model, self.lora, jobs)

    def _relative(self, spec: AdapterSpec, sketch: tuple[int, ...]) -> tuple[Adapter | None, tuple[str, ...]]:
        """Return the kept adapter of the task most like this one, if it is alike enough and fits; and what went wrong.

        What the store says of likeness is a hint; the sketch in the adapter is signed.
        """
        if self.warm_start is None or not sketch:
            return None, ()
        degraded: list[str] = []
        for _, key in nearest(sketch, self.store.sketches(spec.kin), n=_RELATIVES_TRIED, least=self.warm_start):
            relative, told = self._find(key)
            degraded += told
            if (
                relative is not None
                and relative.helps
                and kin_of(relative.spec) == spec.kin
                and likeness(sketch, relative.sketch) >= self.warm_start
            ):
                return relative, tuple(degraded)
        return None, tuple(degraded)

    def _stack_of(self, adapter: Adapter) -> Adaptation:
        """Return a stack of one slot with the adapter in it.

        Raises:
            AdapterRefused: the adapter does not fit the model.
        """
        stack = adaptation_of(self.model, self.lora)
        self._fill(stack, adapter)
        return stack

    def _fill(self, stack: Adaptation, adapter: Adapter, slot: int = 0) -> None:
        if adapter.base_fingerprint != self.model.fingerprint:
            raise AdapterRefused("the adapter was trained on another base model. Train it anew.")
        stack.fill(_tensors(adapter), slot)


def _family(tasks: Sequence[Task]) -> tuple[Task, ...]:
    """Return the tasks, of those with the same demonstrations one, in an order that hangs on nothing else."""
    if not tasks:
        raise TaskRefused("got none", field="tasks", remedy="Give at least one.")
    return tuple(task for _, task in sorted({task.demonstrations_fingerprint: task for task in tasks}.items()))


def _is_kin(adapter: Adapter, kin: str) -> bool:
    """Say whether an adapter that anybody may have made says itself that it is of these relatives."""
    try:
        return kin_of(adapter.spec) == kin
    except (ValueError, KeyError, TypeError):
        return False


def _tensors(adapter: Adapter) -> dict[str, torch.Tensor]:
    """Return views of an adapter's weights, not to be written to."""
    try:
        layout = tensor_layout(adapter.weights)
    except ValueError as error:
        raise AdapterRefused(f"the adapter is not safetensors: {error}. Train it anew.") from error
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        whole = torch.frombuffer(adapter.weights, dtype=torch.uint8)
    return {
        each.name: _aligned(whole[each.start : each.stop]).view(_DTYPES[each.dtype]).reshape(each.shape)
        for each in layout
    }


def _aligned(values: torch.Tensor) -> torch.Tensor:
    return values if values.data_ptr() % 8 == 0 else values.clone()  # after an odd number of 2-byte values


def mixes_adapters(device: torch.device) -> bool:
    """Say whether rows of several adapters are answered in one batch: a GPU would idle over a task's few rows. On two
    cores of a CPU a task took 0.18 s with its adapter in the weights, and 0.20 to 0.26 s beside those of others.
    """
    return device.type != "cpu"
