"""An adapter is trained once and found again; whatever happens to the store, the answer is the adapter's."""

from __future__ import annotations

import gc
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load, save

from icl_engine.answer import Answer
from icl_engine.answering import answer_by_vote, answer_many_by_vote
from icl_engine.errors import ContextOverflow, FewShotError, OutOfMemory, TaskRefused
from icl_engine.inference_settings import InferenceSettings
from icl_engine.language_model import load_model
from icl_engine.task import Task
from icl_engine.transformers_model import TransformersModel, typed_out_of_memory
from tests.adapters import signer
from tests.models import CONSTANT, CONSTANT_TASK, ROW_TASK, TASKS, TEXT_TASK, save_tiny_llama, taught_model, tiny_model
from ttt_engine import engine as engine_module
from ttt_engine.adapter import Adapter
from ttt_engine.cohort import Cohort, Seat
from ttt_engine.config import LoraSettings, TrainingSettings
from ttt_engine.engine import AnswerRequest, TttEngine, mixes_adapters
from ttt_engine.errors import AdapterRefused, AdapterRejected, DeadlinePassed, StoreUnavailable, TrainingFailed
from ttt_engine.lane import Lane
from ttt_engine.neighbours import Neighbours
from ttt_engine.stores import AdapterStore, LocalAdapterStore, MemoryAdapterStore
from ttt_engine.stores.sketch import sketch_of
from ttt_engine.training import TrainingJob, TrainingRun


class DownStore:
    """A store that can be neither read nor written."""

    def get(self, key: str) -> Adapter | None:
        raise StoreUnavailable("cannot be read")

    def put(self, adapter: Adapter) -> None:
        raise StoreUnavailable("cannot be written")

    def __contains__(self, key: str) -> bool:
        return False


@pytest.fixture
def store() -> MemoryAdapterStore:
    return MemoryAdapterStore()


@pytest.fixture
def engine(model: TransformersModel, store: AdapterStore, lora: LoraSettings) -> TttEngine:
    return TttEngine(model, store, lora)


def not_to_be_trained(*_: object) -> None:
    raise AssertionError("it was trained")


def test_a_task_that_cannot_be_answered_in_context_is_answered_after_training(
    engine: TttEngine, training: TrainingSettings
) -> None:
    adapted = engine.adapt(CONSTANT_TASK, training, seed=0)
    (before,) = answer_by_vote(engine.model, CONSTANT_TASK, n_views=4)
    (after,) = engine.answer(CONSTANT_TASK, adapted.adapter, n_views=4)

    assert before.value is None
    assert after.values == (CONSTANT,)
    assert after.confidence == 1.0
    assert (adapted.cached, adapted.degraded) == (False, ())
    assert len(adapted.adapter.losses) == training.steps


def test_an_adapter_of_no_step_answers_like_the_base(lora: LoraSettings, store: AdapterStore) -> None:
    engine = TttEngine(taught_model(), store, lora)
    adapter = engine.adapt(TEXT_TASK, TrainingSettings(steps=0), seed=0).adapter

    for task in TASKS:
        for merged in (True, False):
            trained = engine.answer(task, adapter, n_views=4, merged=merged)

            assert trained == answer_by_vote(engine.model, task, n_views=4)
            assert trained[0].value is not None


def test_a_task_is_answered_with_the_inference_settings_given(lora: LoraSettings, store: AdapterStore) -> None:
    engine = TttEngine(taught_model(), store, lora)
    adapter = engine.adapt(ROW_TASK, TrainingSettings(steps=0), seed=0).adapter
    settings = InferenceSettings(views="paper", vote="scored", decode="search", n_views=3)

    trained = engine.answer(ROW_TASK, adapter, settings=settings)

    assert trained == answer_by_vote(engine.model, ROW_TASK, settings=settings)


def test_merged_or_not_the_answers_are_the_same(engine: TttEngine, training: TrainingSettings) -> None:
    adapter = engine.adapt(CONSTANT_TASK, training, seed=0).adapter
    (merged,), (beside,) = (engine.answer(CONSTANT_TASK, adapter, n_views=8, merged=merged) for merged in (True, False))

    assert merged.values == beside.values
    assert merged.confidence == beside.confidence
    assert merged.candidates[0].log_probability == pytest.approx(beside.candidates[0].log_probability, abs=1e-4)


def test_a_trained_adapter_is_found_again_and_answers_alike(
    engine: TttEngine, lora: LoraSettings, store: AdapterStore, training: TrainingSettings
) -> None:
    assert not engine.is_cached(CONSTANT_TASK, training, seed=0)
    first = engine.adapt(CONSTANT_TASK, training, seed=0)
    answers = engine.answer(CONSTANT_TASK, first.adapter, n_views=4)
    later = TttEngine(tiny_model(), store, lora)
    again = later.adapt(CONSTANT_TASK, training, seed=0, progress=not_to_be_trained)

    assert later.is_cached(CONSTANT_TASK, training, seed=0)
    assert again.cached
    assert again.adapter == first.adapter
    assert later.answer(CONSTANT_TASK, again.adapter, n_views=4) == answers


def test_one_adapter_serves_every_query_of_its_demonstrations(engine: TttEngine, training: TrainingSettings) -> None:
    adapter = engine.adapt(CONSTANT_TASK, training, seed=0).adapter
    several = CONSTANT_TASK.model_copy(update={"queries": (((1, 2),), ((3, 3, 4),)), "id": "another"})

    assert engine.is_cached(several, training, seed=0)
    assert [answer.value for answer in engine.answer(several, adapter, n_views=2)] == [CONSTANT, CONSTANT]


def test_other_settings_seed_or_base_do_not_find_it(
    engine: TttEngine, store: AdapterStore, lora: LoraSettings, training: TrainingSettings
) -> None:
    engine.adapt(CONSTANT_TASK, training, seed=0)

    assert not engine.is_cached(CONSTANT_TASK, replace(training, steps=1), seed=0)
    assert not engine.is_cached(CONSTANT_TASK, training, seed=1)
    assert not TttEngine(tiny_model(seed=1), store, lora).is_cached(CONSTANT_TASK, training, seed=0)
    assert not TttEngine(engine.model, store, replace(lora, rank=2)).is_cached(CONSTANT_TASK, training, seed=0)


def test_the_same_seed_trains_the_same_bytes_on_another_model_of_the_same_weights(
    engine: TttEngine, lora: LoraSettings, training: TrainingSettings
) -> None:
    short = replace(training, steps=3)
    engine.adapt(TEXT_TASK, short, seed=9)  # what the slot held before does not matter
    first = engine.adapt(CONSTANT_TASK, short, seed=0).adapter
    other = TttEngine(tiny_model(), MemoryAdapterStore(), lora).adapt(CONSTANT_TASK, short, seed=0).adapter

    assert first.sha256 == other.sha256
    assert (first.key, first.losses, first.peft_config) == (other.key, other.losses, other.peft_config)


def test_adapters_of_two_tasks_do_not_mix(engine: TttEngine, training: TrainingSettings) -> None:
    other_task = Task.from_pairs([("a", "yes"), ("b", "yes"), ("c", "yes")], "d")
    one = engine.adapt(CONSTANT_TASK, training, seed=0).adapter
    before = engine.answer(CONSTANT_TASK, one, n_views=2)
    other = engine.adapt(other_task, training, seed=0).adapter

    assert engine.answer(other_task, other, n_views=2) != engine.answer(other_task, one, n_views=2)
    assert engine.answer(CONSTANT_TASK, one, n_views=2) == before


def test_any_model_can_be_trained_through_its_own_tokenizer(
    tmp_path: Path, store: AdapterStore, lora: LoraSettings, training: TrainingSettings
) -> None:
    engine = TttEngine(load_model(str(save_tiny_llama(tmp_path / "llama")), device="cpu"), store, lora)
    adapted = engine.adapt(CONSTANT_TASK, training, seed=0)
    merged, beside = (
        engine.answer(CONSTANT_TASK, adapted.adapter, n_views=4, merged=merged) for merged in (True, False)
    )

    assert adapted.adapter.losses[-1] < 0.5 * adapted.adapter.losses[0]
    assert merged[0].values == beside[0].values
    assert merged[0].value == CONSTANT


# What goes wrong


def test_a_store_that_is_down_costs_the_cache_and_not_the_answer(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings
) -> None:
    engine = TttEngine(model, DownStore(), lora)
    adapted = engine.adapt(CONSTANT_TASK, training, seed=0)

    assert adapted.degraded == ("cannot be read", "cannot be written")
    assert engine.answer(CONSTANT_TASK, adapted.adapter, n_views=2)[0].value == CONSTANT


def test_a_damaged_adapter_is_trained_anew_and_kept(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings, tmp_path: Path
) -> None:
    engine = TttEngine(model, LocalAdapterStore(tmp_path, signer()), lora)
    first = engine.adapt(CONSTANT_TASK, training, seed=0).adapter
    LocalAdapterStore(tmp_path, signer()).path(first.key).write_bytes(b"damaged")
    again = engine.adapt(CONSTANT_TASK, training, seed=0)
    third = engine.adapt(CONSTANT_TASK, training, seed=0)

    assert not again.cached
    assert "rejected" in again.degraded[0]
    assert again.adapter.sha256 == first.sha256
    assert (third.cached, third.degraded) == (True, ())


@pytest.mark.parametrize(
    ("kind", "what"), [("memory", "not a number"), ("memory", "no safetensors"), ("local", "not a number")]
)
def test_an_adapter_that_the_store_vouches_for_but_that_does_not_fit_is_trained_anew_and_replaced(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings, tmp_path: Path, kind: str, what: str
) -> None:
    store: AdapterStore = MemoryAdapterStore() if kind == "memory" else LocalAdapterStore(tmp_path, signer())
    engine = TttEngine(model, store, lora)
    good = engine.adapt(CONSTANT_TASK, training, seed=0).adapter
    poisoned = {name: tensor * float("nan") for name, tensor in load(bytes(good.weights)).items()}
    bad = replace(good, weights=save(poisoned) if what == "not a number" else b"no safetensors")
    store.put(bad)
    again = engine.adapt(CONSTANT_TASK, training, seed=0)

    assert not again.cached
    assert "anew" in again.degraded[0]
    assert again.adapter.sha256 == good.sha256
    assert engine.adapt(CONSTANT_TASK, training, seed=0).cached
    with pytest.raises(AdapterRefused):
        engine.answer(CONSTANT_TASK, bad, n_views=1)


def test_an_adapter_of_another_base_is_refused(
    engine: TttEngine, lora: LoraSettings, training: TrainingSettings
) -> None:
    adapter = engine.adapt(CONSTANT_TASK, training, seed=0).adapter
    other = TttEngine(tiny_model(seed=1), MemoryAdapterStore(), lora)

    with pytest.raises(AdapterRefused, match="another base"):
        other.answer(CONSTANT_TASK, adapter, n_views=1)


def test_training_that_fails_keeps_nothing(engine: TttEngine, training: TrainingSettings) -> None:
    with pytest.raises(TrainingFailed):
        engine.adapt(CONSTANT_TASK, training, seed=0, deadline=time.monotonic() - 1)

    assert not engine.is_cached(CONSTANT_TASK, training, seed=0)
    assert not any(parameter.requires_grad for parameter in engine.model.module.parameters())


def test_the_model_answers_as_the_base_while_no_adapter_is_asked_for(
    lora: LoraSettings, store: AdapterStore, training: TrainingSettings
) -> None:
    engine = TttEngine(taught_model(), store, lora)
    before = engine.model.generate(TASKS)
    adapter = engine.adapt(CONSTANT_TASK, training, seed=0).adapter
    engine.answer(CONSTANT_TASK, adapter, n_views=2)

    assert engine.model.generate(TASKS) == before
    assert torch.is_grad_enabled()


# Together


def test_of_many_that_want_the_same_adapter_one_trains(engine: TttEngine, training: TrainingSettings) -> None:
    begun: list[int] = []
    with ThreadPoolExecutor(8) as pool:
        asked = [
            pool.submit(engine.adapt, CONSTANT_TASK, training, seed=0, progress=lambda step, *_: begun.append(step))
            for _ in range(8)
        ]
        adapted = [each.result() for each in asked]

    assert begun.count(1) == 1
    assert sum(not each.cached for each in adapted) == 1
    assert len({each.adapter.sha256 for each in adapted}) == 1


def test_one_who_waits_too_long_for_another_s_training_is_told_so(
    engine: TttEngine, training: TrainingSettings
) -> None:
    begun, go = threading.Event(), threading.Event()

    def hold(*_: object) -> None:
        begun.set()
        go.wait(60)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(engine.adapt, CONSTANT_TASK, training, seed=0, progress=hold)
        begun.wait(60)
        with pytest.raises(TrainingFailed, match="deadline reached while another"):
            engine.adapt(CONSTANT_TASK, training, seed=0, deadline=time.monotonic() + 0.2)
        go.set()

        assert not first.result().cached


def test_one_whose_time_runs_out_in_a_lane_is_told_whether_it_was_its_turn(
    engine: TttEngine, training: TrainingSettings
) -> None:
    lane, begun, go = Lane(), threading.Event(), threading.Event()

    def check() -> None:
        if begun.is_set():
            raise DeadlinePassed("waiting for the model")

    def hold(requests: Sequence[int]) -> Sequence[int]:
        assert go.wait(60)
        return requests

    with ThreadPoolExecutor(2) as pool:
        holding = pool.submit(lane.seat().ask, hold, 1)
        waiting = pool.submit(engine.adapt, CONSTANT_TASK, training, seed=0, seat=lane.seat(check))
        _until(lambda: lane.n_waiting == 1)
        begun.set()
        with pytest.raises(DeadlinePassed, match="while waiting for the model"):
            waiting.result(60)
        begun.clear()
        go.set()
        holding.result(60)

        with engine.model.lock:  # so that it cannot take a step
            seat, left = lane.seat(check), begun.is_set
            cut = pool.submit(engine.adapt, CONSTANT_TASK, training, seed=0, seat=seat, cancelled=left)
            _until(lambda: bool(engine.flight._flights) and not lane.n_waiting)
            time.sleep(0.05)
            begun.set()
            with pytest.raises(TrainingFailed, match="deadline reached before the first step was done") as stopped:
                cut.result(60)
        assert lane.seat().ask(hold, 2) == 2  # the lane is free again

    assert stopped.value.gave_up


def _until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < end, "it does not come to that"
        time.sleep(0.001)


# Families


def test_one_adapter_answers_every_task_of_a_family_and_is_found_again_in_any_order(
    engine: TttEngine, training: TrainingSettings
) -> None:
    like = Task.from_pairs([([7, 7], [0, 0]), ([2], [0, 0]), ([1, 9], [0, 0])], [3])
    first = engine.adapt_shared([CONSTANT_TASK, like], training, seed=0)
    again = engine.adapt_shared([like, CONSTANT_TASK, like], training, seed=0, progress=not_to_be_trained)

    assert (first.cached, again.cached) == (False, True)
    assert first.adapter == again.adapter
    assert len(first.adapter.losses) == training.steps
    for task in (CONSTANT_TASK, like):
        assert engine.answer(task, first.adapter, n_views=2)[0].value == CONSTANT
        assert not engine.is_cached(task, training, seed=0)
        assert engine.is_cached(task, training, seed=0, family=(like, CONSTANT_TASK))
        assert not engine.is_cached(task, training, seed=1, family=(like, CONSTANT_TASK))


def test_a_family_of_one_has_the_task_s_own_adapter(engine: TttEngine, training: TrainingSettings) -> None:
    short = replace(training, steps=2)
    own = engine.adapt(CONSTANT_TASK, short, seed=0).adapter
    shared = engine.adapt_shared([CONSTANT_TASK], short, seed=0)

    assert shared.cached
    assert shared.adapter == own


def test_another_family_or_seed_has_another_adapter_and_no_task_begins_with_a_family_s(
    model: TransformersModel, lora: LoraSettings, store: MemoryAdapterStore, training: TrainingSettings
) -> None:
    engine, short = TttEngine(model, store, lora, warm_start=0.0), replace(training, steps=1)
    shared = [
        engine.adapt_shared(tasks, short, seed=seed).adapter
        for tasks, seed in ((TASKS[:2], 0), (TASKS[1:], 0), (TASKS, 0), (TASKS, 1))
    ]
    own = engine.adapt(CONSTANT_TASK, short, seed=0).adapter

    assert len({each.key for each in (*shared, own)}) == 5
    assert all(each.parents == () for each in (*shared, own))


def test_a_family_of_none_is_refused(engine: TttEngine, training: TrainingSettings) -> None:
    with pytest.raises(TaskRefused, match="at least one"):
        engine.adapt_shared([], training, seed=0)


# Tenants and relatives


def test_a_tenant_s_engine_finds_nothing_of_another_s(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings, tmp_path: Path
) -> None:
    short = replace(training, steps=1)
    one, other = (
        TttEngine(model, LocalAdapterStore(tmp_path, signer(tenant)), lora, tenant=tenant, warm_start=0.0)
        for tenant in ("acme", "beta")
    )
    first = one.adapt(CONSTANT_TASK, short, seed=0).adapter
    second = other.adapt(CONSTANT_TASK, short, seed=0).adapter

    assert first.key != second.key
    assert second.parents == ()


def test_training_begins_afresh_unless_a_warm_start_is_asked_for(engine: TttEngine, training: TrainingSettings) -> None:
    short = replace(training, steps=1)
    engine.adapt(CONSTANT_TASK, short, seed=1)

    assert engine.adapt(CONSTANT_TASK, short, seed=0).adapter.parents == ()


def test_a_relative_is_where_training_begins_and_is_recorded_but_is_never_the_answer(
    model: TransformersModel, lora: LoraSettings, store: MemoryAdapterStore, training: TrainingSettings
) -> None:
    engine = TttEngine(model, store, lora, warm_start=0.5)
    first = engine.adapt(CONSTANT_TASK, training, seed=0)
    like = CONSTANT_TASK.replace(demonstrations=CONSTANT_TASK.demonstrations[:2])
    second = engine.adapt(like, replace(training, steps=3), seed=0)
    third = engine.adapt(like, replace(training, steps=2), seed=0)
    unlike = engine.adapt(TEXT_TASK, replace(training, steps=1), seed=0)

    assert (first.cached, second.cached, third.cached) == (False, False, False)
    assert first.adapter.parents == unlike.adapter.parents == ()
    assert second.adapter.parents == (first.adapter.key,)
    assert third.adapter.parents == (second.adapter.key, first.adapter.key)
    assert second.adapter.losses[0] < 0.5 * first.adapter.losses[0]


def test_adapters_that_began_with_a_relative_have_keys_of_their_own(
    model: TransformersModel, lora: LoraSettings, store: MemoryAdapterStore, training: TrainingSettings
) -> None:
    fresh, warm = TttEngine(model, store, lora), TttEngine(model, store, lora, warm_start=1.0)

    assert fresh.key(CONSTANT_TASK, training, seed=0) != warm.key(CONSTANT_TASK, training, seed=0)


def test_training_begins_with_the_adapter_that_is_given_and_what_comes_of_it_is_kept_apart(
    engine: TttEngine, training: TrainingSettings
) -> None:
    first = engine.adapt(CONSTANT_TASK, training, seed=0).adapter
    short = replace(training, steps=1)

    fresh = engine.adapt(CONSTANT_TASK, short, seed=0).adapter
    begun, again = (engine.adapt(CONSTANT_TASK, short, seed=0, start=first) for _ in range(2))

    assert begun.adapter.parents == (first.key,)
    assert begun.adapter.losses[0] < 0.5 * fresh.losses[0]
    assert begun.adapter.key != fresh.key
    assert (begun.cached, again.cached) == (False, True)


def test_an_adapter_of_another_shape_is_refused_as_one_to_begin_with(
    model: TransformersModel, lora: LoraSettings, store: MemoryAdapterStore, training: TrainingSettings
) -> None:
    short = replace(training, steps=1)
    other = TttEngine(model, store, replace(lora, alpha=3.0)).adapt(CONSTANT_TASK, short, seed=0).adapter
    engine = TttEngine(model, store, lora)

    for wrong in (other, replace(other, spec="")):
        with pytest.raises(AdapterRefused, match="of another base model, shape or tenant"):
            engine.adapt(CONSTANT_TASK, short, seed=0, start=wrong)


def test_a_relative_of_other_settings_or_damaged_is_no_relative(
    model: TransformersModel, lora: LoraSettings, store: MemoryAdapterStore, training: TrainingSettings
) -> None:
    short = replace(training, steps=1)
    TttEngine(model, store, replace(lora, alpha=3.0), warm_start=0.0).adapt(CONSTANT_TASK, short, seed=0)
    engine = TttEngine(model, store, lora, warm_start=0.0)
    good = engine.adapt(CONSTANT_TASK, short, seed=0).adapter
    store.put(replace(good, weights=b"no safetensors"))

    assert good.parents == ()
    assert engine.adapt(CONSTANT_TASK, short, seed=1).adapter.parents == ()


def test_what_is_said_of_likeness_is_a_hint_that_the_adapter_must_bear_out(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings
) -> None:
    class Misled(MemoryAdapterStore):
        def sketches(self, kin: str) -> dict[str, tuple[int, ...]]:
            return dict.fromkeys(super().sketches(kin), sketch_of(CONSTANT_TASK))

    engine = TttEngine(model, Misled(), lora, warm_start=0.9)
    engine.adapt(TEXT_TASK, replace(training, steps=1), seed=0)

    assert engine.adapt(CONSTANT_TASK, replace(training, steps=1), seed=0).adapter.parents == ()


def test_where_the_nearest_relative_is_gone_the_next_will_do_and_what_was_wrong_is_said(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings
) -> None:
    class Forgetful(MemoryAdapterStore):
        lost = ""

        def get(self, key: str) -> Adapter | None:
            if key == self.lost:
                raise AdapterRejected("hash", "it is bad")
            return super().get(key)

    store, short = Forgetful(), replace(training, steps=1)
    engine = TttEngine(model, store, lora, warm_start=0.2)
    like = CONSTANT_TASK.replace(demonstrations=CONSTANT_TASK.demonstrations[:2])
    further = engine.adapt(like, short, seed=0).adapter
    store.lost = engine.adapt(CONSTANT_TASK, short, seed=1).adapter.key
    adapted = engine.adapt(CONSTANT_TASK, short, seed=2)

    assert adapted.adapter.parents[0] == further.key
    assert len(adapted.degraded) == 1
    assert "rejected (hash)" in adapted.degraded[0]


def test_a_folder_that_cannot_be_listed_costs_a_relative_and_no_training(
    model: TransformersModel, lora: LoraSettings, training: TrainingSettings, tmp_path: Path
) -> None:
    store = LocalAdapterStore(tmp_path, signer())
    store.folder.write_text("no folder")
    engine = TttEngine(model, store, lora, warm_start=0.0)

    assert engine.adapt(CONSTANT_TASK, replace(training, steps=1), seed=0).degraded != ()


# Several tasks


@pytest.fixture(params=[True, False], ids=["in one batch", "by adapter"])
def mixed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether rows of several adapters are answered in one batch, as on a GPU, or those of each by themselves."""
    monkeypatch.setattr("ttt_engine.engine.mixes_adapters", lambda device: request.param)
    mixes: bool = request.param
    return mixes


def test_several_adapters_share_a_batch_on_a_gpu_alone() -> None:
    assert [mixes_adapters(torch.device(name)) for name in ("cpu", "cuda")] == [False, True]


@pytest.mark.parametrize("vote", ["hierarchical", "scored"])
def test_tasks_answered_together_have_the_answers_they_have_alone(
    engine: TttEngine,
    training: TrainingSettings,
    mixed: bool,
    vote: Literal["hierarchical", "scored"],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batches: list[int] = []

    def noting(model: TransformersModel, tasks: Sequence[Task], *rest: Any, **named: Any) -> Any:
        batches.append(len(tasks))
        return answer_many_by_vote(model, tasks, *rest, **named)

    monkeypatch.setattr("ttt_engine.engine.answer_many_by_vote", noting)
    tasks = [CONSTANT_TASK, ROW_TASK, TEXT_TASK, CONSTANT_TASK.replace(queries=(((8, 2),), ((1, 1, 1),)))]
    adapters = [engine.adapt(task, training, seed=0).adapter for task in tasks]
    settings = InferenceSettings(n_views=4, vote=vote)
    alone = [engine.answer(task, adapter, settings=settings) for task, adapter in zip(tasks, adapters, strict=True)]
    requests = [AnswerRequest(task, adapter, settings) for task, adapter in zip(tasks, adapters, strict=True)]

    together = engine.answer_many(requests)

    assert adapters[0].key == adapters[3].key
    assert batches == ([4] if mixed else [2])
    for answers, expected in zip(together, alone, strict=True):
        assert not isinstance(answers, Exception)
        assert [answer.values for answer in answers] == [answer.values for answer in expected]
        assert [answer.confidence for answer in answers] == [answer.confidence for answer in expected]
        assert [answer.tokens for answer in answers] == [answer.tokens for answer in expected]
        scores = [[each.log_probability for each in answer.candidates] for answer in answers]
        assert scores == [
            pytest.approx([each.log_probability for each in answer.candidates], abs=1e-3) for answer in expected
        ]


def test_searches_are_made_one_by_one(engine: TttEngine, training: TrainingSettings, mixed: bool) -> None:
    settings = InferenceSettings(n_views=2, decode="search")
    tasks = [CONSTANT_TASK, ROW_TASK]
    adapters = [engine.adapt(task, training, seed=0).adapter for task in tasks]
    requests = [AnswerRequest(task, adapter, settings) for task, adapter in zip(tasks, adapters, strict=True)]

    answers = engine.answer_many(requests)

    assert answers == [
        engine.answer(task, adapter, settings=settings) for task, adapter in zip(tasks, adapters, strict=True)
    ]


def test_a_request_that_cannot_be_answered_keeps_the_others_from_nothing(
    engine: TttEngine, training: TrainingSettings, mixed: bool
) -> None:
    adapter, other = (engine.adapt(task, training, seed=0).adapter for task in (CONSTANT_TASK, ROW_TASK))
    long = TEXT_TASK.replace(queries=("x" * 600,))
    settings = InferenceSettings(n_views=2)
    requests = [
        AnswerRequest(ROW_TASK, other, settings),
        AnswerRequest(long, adapter, settings),
        AnswerRequest(CONSTANT_TASK, replace(adapter, base_fingerprint="another"), settings),
        AnswerRequest(CONSTANT_TASK, replace(other, key="0" * 64, base_fingerprint="another"), settings),
        AnswerRequest(CONSTANT_TASK, adapter, settings),
    ]

    of_other, overflown, refused, refused_alone, answered = engine.answer_many(requests)

    assert of_other == engine.answer(ROW_TASK, other, settings=settings)
    assert isinstance(overflown, ContextOverflow)
    assert isinstance(refused, AdapterRefused)
    assert isinstance(refused_alone, AdapterRefused)
    assert not isinstance(answered, Exception)
    assert [answer.value for answer in answered] == [CONSTANT]


def test_members_of_a_cohort_are_trained_together_and_get_what_they_would_get_alone(
    model: TransformersModel, engine: TttEngine, training: TrainingSettings
) -> None:
    tasks = [CONSTANT_TASK, ROW_TASK, TEXT_TASK]
    alone = [engine.adapt(task, training, seed=0).adapter for task in tasks]
    other = TttEngine(model, MemoryAdapterStore(), engine.lora)
    served: list[int] = []
    run_all = other._run_all

    def noted(jobs: Sequence[TrainingJob]) -> Sequence[TrainingRun | FewShotError]:
        served.append(len(jobs))
        return run_all(jobs)

    other._run_all = noted  # type: ignore[method-assign]

    def adapted(task: Task, seat: Seat) -> Adapter:
        try:
            return other.adapt(task, training, seed=0, seat=seat).adapter
        finally:
            seat.leave()

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(adapted, [*tasks, CONSTANT_TASK], Cohort(4).seats))

    assert served == [3]
    assert together[3].key == together[0].key
    for adapter, expected in zip(together, alone, strict=False):
        assert adapter.key == expected.key
        assert adapter.losses == pytest.approx(expected.losses, rel=1e-4)


# The nearest adapter


def test_the_nearest_task_is_one_that_was_trained_on_or_that_the_store_had(
    model: TransformersModel, store: MemoryAdapterStore, lora: LoraSettings, training: TrainingSettings
) -> None:
    short = replace(training, steps=1)
    engine = TttEngine(model, store, lora)
    before = engine.nearest_distance(ROW_TASK)
    engine.adapt(CONSTANT_TASK, short, seed=0)
    other = engine.nearest_distance(ROW_TASK)
    engine.adapt(ROW_TASK, short, seed=0)

    assert before is None
    assert other is not None
    assert 0.0 < other <= 1.0
    assert engine.nearest_distance(ROW_TASK) == 0.0
    assert TttEngine(model, store, lora).nearest_distance(ROW_TASK) == 0.0
    assert TttEngine(model, store, replace(lora, rank=2)).nearest_distance(ROW_TASK) is None


def test_a_store_that_is_away_has_no_neighbours(model: TransformersModel, lora: LoraSettings) -> None:
    assert TttEngine(model, DownStore(), lora).nearest_distance(ROW_TASK) is None


def test_tasks_that_share_their_demonstrations_are_sketched_once(
    model: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    sketched: list[Task] = []

    def counted(task: Task) -> tuple[int, ...]:
        sketched.append(task)
        return sketch_of(task)

    monkeypatch.setattr(engine_module, "sketch_of", counted)
    monkeypatch.setattr(engine_module, "_SKETCHES_KEPT", 1)
    engine = TttEngine(model, MemoryAdapterStore())
    engine._neighbours = Neighbours()
    engine._neighbours.add("key", sketch_of(ROW_TASK))
    asked = [ROW_TASK, ROW_TASK.replace(queries=TASKS[0].queries), TASKS[1], ROW_TASK]
    distances = [engine.nearest_distance(task) for task in asked]

    assert sketched == [ROW_TASK, TASKS[1], ROW_TASK]
    assert distances[0] == distances[1] == distances[3] == 0.0


def fails(held: list[weakref.ref[torch.Tensor]]) -> Callable[..., object]:
    """A pass that runs out of memory, and takes note of what it held."""

    def run_out(*_: object, **__: object) -> object:
        activations = torch.zeros(1)
        held.append(weakref.ref(activations))
        with typed_out_of_memory():
            raise torch.OutOfMemoryError("out of memory")

    return run_out


def test_what_a_failed_pass_held_is_let_go_before_its_tasks_are_answered_one_by_one(
    engine: TttEngine, training: TrainingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = engine.adapt(CONSTANT_TASK, training, seed=0).adapter
    requests = [AnswerRequest(CONSTANT_TASK, adapter, InferenceSettings(n_views=2))] * 2
    held: list[weakref.ref[torch.Tensor]] = []
    still_held: list[bool] = []

    def answer(*_: object, **__: object) -> tuple[Answer, ...]:
        still_held.append(held[0]() is not None)
        return ()

    monkeypatch.setattr("ttt_engine.engine.answer_many_by_vote", fails(held))
    monkeypatch.setattr(engine, "answer", answer)
    gc.disable()
    try:
        answers = engine.answer_many(requests)
    finally:
        gc.enable()

    assert answers == [(), ()]
    assert still_held == [False, False]


def test_an_error_that_is_handed_on_holds_nothing_of_its_pass_and_still_says_where_it_was(
    engine: TttEngine, training: TrainingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = engine.adapt(CONSTANT_TASK, training, seed=0).adapter
    held: list[weakref.ref[torch.Tensor]] = []
    monkeypatch.setattr(engine, "answer", fails(held))
    gc.disable()
    try:
        (error,) = engine.answer_many([AnswerRequest(CONSTANT_TASK, adapter, InferenceSettings())])
    finally:
        gc.enable()

    assert isinstance(error, OutOfMemory)
    assert [reference() for reference in held] == [None]
    assert "run_out" in [frame.name for frame in traceback.extract_tb(error.__traceback__)]


def test_a_task_that_fits_under_the_papers_views_alone_is_answered_in_company_as_it_is_alone(
    engine: TttEngine, training: TrainingSettings, mixed: bool
) -> None:
    adapter = engine.adapt(CONSTANT_TASK, training, seed=0).adapter
    settings = InferenceSettings(n_views=2, views="paper")
    long = Task.from_pairs([("x" * 190 + mark, "a") for mark in "bcd"], ["x"])
    longer = TEXT_TASK.replace(queries=("x" * 600,))
    other = engine.adapt(ROW_TASK, training, seed=0).adapter
    asked = [(long, adapter), (CONSTANT_TASK, other), (CONSTANT_TASK, adapter), (longer, adapter)]
    answers = engine.answer_many([AnswerRequest(task, trained, settings) for task, trained in asked])

    assert not engine.model.fits(long)
    for answered, (task, trained) in zip(answers[:3], asked, strict=False):
        assert not isinstance(answered, Exception)
        alone = engine.answer(task, trained, settings=settings)
        assert [answer.values for answer in answered] == [answer.values for answer in alone]
    assert isinstance(answers[3], ContextOverflow)
