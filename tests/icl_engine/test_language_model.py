"""Scores and answers of a real model agree with a plain pass through it, and with each other."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import MistralConfig

import icl_engine.transformers_model
from icl_engine.errors import ContextOverflow, ModelUnavailable, OutOfMemory
from icl_engine.language_model import Generation, OutputScore, load_model
from icl_engine.reading import can_forget
from icl_engine.task import Task, Value
from icl_engine.transformers_model import TransformersModel, typed_out_of_memory
from tests.models import ANSWERS, GRID_TASK, ROW_TASK, TASKS, TEXT_TASK, save_tiny_llama, save_tiny_mistral, tiny_module

ANSWERED = list(zip(TASKS, ANSWERS, strict=True))
WRONG: list[tuple[Task, Value]] = [(ROW_TASK, ((0, 5, 5),)), (GRID_TASK, ((5, 4),)), (TEXT_TASK, "größe")]


def alike(score: OutputScore, other: OutputScore) -> bool:
    return (
        score.nll == pytest.approx(other.nll, abs=1e-3, rel=1e-4)
        and (score.n_tokens, score.exact) == (other.n_tokens, other.exact)
    )  # fmt: skip


@pytest.mark.parametrize("answered", [*ANSWERED, *WRONG])
def test_a_score_is_the_sum_over_an_output_of_what_a_plain_pass_says(
    tiny: TransformersModel, answered: tuple[Task, Value]
) -> None:
    task, answer = answered
    encoded = tiny.encode(task, answer)
    ids = torch.tensor(encoded.ids)
    with torch.no_grad():
        log_p = tiny.module(input_ids=ids[None], use_cache=False).logits[0].log_softmax(-1)
    (score,), (said,) = tiny.score([answered]), tiny.generate([task], score_demonstrations=True)

    for found, (start, stop) in zip((*said.demonstrations, score), encoded.outputs, strict=True):
        plain = -sum(float(log_p[place - 1, ids[place]]) for place in range(start, stop))
        likeliest = all(int(log_p[place - 1].argmax()) == int(ids[place]) for place in range(start, stop))

        assert alike(found, OutputScore(plain, stop - start, likeliest))


@pytest.mark.parametrize("n_queries", [1, 2], ids=["alone", "shared prefix"])
@pytest.mark.parametrize("task", TASKS, ids=["row", "grid", "text"])
def test_the_hidden_state_is_the_last_layer_s_at_the_prompt_s_end(
    tiny: TransformersModel, task: Task, n_queries: int
) -> None:
    questions = [task.replace(queries=(query,)) for query in (task.query, task.demonstrations[0].input)[:n_queries]]
    told = tiny.generate(questions, score_demonstrations=True)

    for question, said in zip(questions, told, strict=True):
        ids = torch.tensor([tiny.encode(question).ids])
        with torch.no_grad():
            plain = tiny.module.model(input_ids=ids, use_cache=False).last_hidden_state[0, -1]
        assert said.hidden == pytest.approx(plain.tolist(), abs=1e-3)
    assert all(said.hidden == () for said in tiny.generate(questions))


def test_a_draft_stands_behind_the_prompt_so_no_hidden_state_is_told(tiny: TransformersModel) -> None:
    (said,) = tiny.generate([ROW_TASK], score_demonstrations=True, drafts=[((0, 5),)])

    assert said.hidden == ()


def test_an_output_is_exact_where_greedy_decoding_writes_it(taught: TransformersModel) -> None:
    written = [answer.value for answer in taught.generate([task for task, _ in ANSWERED + WRONG])]
    exact = [score.exact for score in taught.score(ANSWERED + WRONG)]

    assert exact == [value == answer for value, (_, answer) in zip(written, ANSWERED + WRONG, strict=True)]
    assert exact == [True] * 3 + [False] * 3


def test_the_probability_of_an_answer_is_its_score(taught: TransformersModel) -> None:
    for answer, score in zip(taught.generate(TASKS), taught.score(ANSWERED), strict=True):
        # the grammar forbids some tokens, and the rest share what those had
        assert -score.nll <= answer.log_probability + 1e-4
        assert answer.log_probability == pytest.approx(-score.nll, abs=0.2)
        assert len(answer.token_log_probabilities) == score.n_tokens


def test_demonstrations_are_scored_where_that_is_asked_for_and_the_answers_are_the_same(
    taught: TransformersModel,
) -> None:
    plain, scored = taught.generate(TASKS), taught.generate(TASKS, score_demonstrations=True)

    assert [answer.value for answer in plain] == [answer.value for answer in scored]
    assert all(answer.demonstrations == () for answer in plain)


def test_a_demonstration_is_scored_given_those_before_it_alone(tiny: TransformersModel) -> None:
    (whole,) = tiny.generate([ROW_TASK], score_demonstrations=True)
    for i, shown in enumerate(ROW_TASK.demonstrations):
        before = ROW_TASK.replace(demonstrations=ROW_TASK.demonstrations[:i], queries=(shown.input,))
        (score,) = tiny.score([(before, shown.output)])

        assert alike(score, whole.demonstrations[i])


@pytest.mark.parametrize("limit", ["_BATCH_TOKENS", "_BATCH_LOGITS"])
def test_answers_do_not_depend_on_how_tasks_are_batched(
    taught: TransformersModel, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    together, scores = taught.generate(TASKS), taught.score(ANSWERED)
    monkeypatch.setitem(getattr(icl_engine.transformers_model, limit), "cpu", 1)

    assert [answer.value for answer in taught.generate(TASKS)] == [answer.value for answer in together]
    assert all(map(alike, taught.score(ANSWERED), scores))


@pytest.mark.parametrize("kind", ["llama", "embedded"])
def test_tasks_that_share_demonstrations_are_answered_together_as_they_are_alone(
    tmp_path: Path, tiny: TransformersModel, kind: str
) -> None:
    model = load_model(str(save_tiny_llama(tmp_path)), device="cpu") if kind == "llama" else tiny
    queries = ("not True", "a", "not not not False", "b c")
    tasks = [TEXT_TASK.replace(queries=(query,)) for query in queries]

    together = model.generate([ROW_TASK, *tasks], score_demonstrations=True)[1:]

    for answer, task in zip(together, tasks, strict=True):
        (alone,) = model.generate([task], score_demonstrations=True)
        assert answer.value == alone.value
        assert answer.prompt_tokens == alone.prompt_tokens
        assert answer.token_log_probabilities == pytest.approx(alone.token_log_probabilities, abs=1e-3)
        assert all(map(alike, answer.demonstrations, alone.demonstrations))


def same(answer: Generation, other: Generation) -> bool:
    return (
        answer.value == other.value
        and answer.prompt_tokens == other.prompt_tokens
        and answer.token_log_probabilities == pytest.approx(other.token_log_probabilities, abs=1e-4)
        and all(map(alike, answer.demonstrations, other.demonstrations))
    )


@pytest.mark.parametrize("name", ["tiny", "taught", "llama"])
@pytest.mark.parametrize("drafts", [ANSWERS, [answer for _, answer in WRONG], [((0, 5, 4, 4),), None, "größeres"]])
def test_a_draft_changes_no_answer(
    request: pytest.FixtureRequest, tmp_path: Path, name: str, drafts: list[Value | None]
) -> None:
    model: TransformersModel = (
        load_model(str(save_tiny_llama(tmp_path)), device="cpu") if name == "llama" else request.getfixturevalue(name)
    )
    plain = model.generate(TASKS, score_demonstrations=True)

    assert all(map(same, model.generate(TASKS, score_demonstrations=True, drafts=drafts), plain))
    assert all(map(same, model.generate(TASKS, drafts=drafts), model.generate(TASKS)))


def test_drafts_of_tasks_that_share_demonstrations_change_no_answer(taught: TransformersModel) -> None:
    tasks = [TEXT_TASK.replace(queries=(query,)) for query in ("not not True", "True", "a b")]
    plain = taught.generate(tasks, score_demonstrations=True)

    assert all(map(same, taught.generate(tasks, score_demonstrations=True, drafts=["größer", "grö", None]), plain))


def test_a_draft_longer_than_an_answer_may_be_changes_nothing(tiny: TransformersModel) -> None:
    task = of_length(tiny, tiny.context_tokens - 3)

    (drafted,), (plain,) = tiny.generate([task], drafts=["b" * 9]), tiny.generate([task])

    assert same(drafted, plain)


def test_a_model_that_keeps_a_window_of_tokens_cannot_take_them_back() -> None:
    module = SimpleNamespace(config=MistralConfig(num_hidden_layers=2, sliding_window=8))

    assert not can_forget(module)
    assert can_forget(tiny_module())


def test_a_model_that_keeps_a_window_of_tokens_answers_each_of_several_queries_as_it_does_alone(
    tmp_path: Path,
) -> None:
    model = load_model(str(save_tiny_mistral(tmp_path, sliding_window=16)), device="cpu")
    tasks = [TEXT_TASK.replace(queries=(query,)) for query in ("a", "not True and " * 4)]

    for one, task in zip(model.generate(tasks), tasks, strict=True):
        assert same(one, model.generate([task])[0])


@pytest.mark.parametrize("said", ["CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate", "can't allocate memory"])
def test_every_way_to_say_that_memory_ran_out_is_one_error(said: str) -> None:
    with pytest.raises(OutOfMemory), typed_out_of_memory():
        raise RuntimeError(said)


def test_answers_come_in_the_order_of_the_tasks(taught: TransformersModel) -> None:
    backwards = taught.generate(TASKS[::-1])

    assert tuple(answer.value for answer in backwards) == ANSWERS[::-1]
    assert [answer.prompt_tokens for answer in backwards] == [len(taught.encode(task).ids) for task in TASKS[::-1]]


def test_nothing_asked_is_nothing_answered(tiny: TransformersModel) -> None:
    assert tiny.generate([]) == []
    assert tiny.score([]) == []


def test_several_threads_get_the_answers_that_one_gets(taught: TransformersModel) -> None:
    alone = taught.generate(TASKS)
    with ThreadPoolExecutor(4) as pool:
        at_once = list(pool.map(lambda _: taught.generate(TASKS), range(4)))

    assert all(answers == alone for answers in at_once)


def test_an_answer_that_never_ends_is_none(tiny: TransformersModel) -> None:
    (answer,) = tiny.generate([ROW_TASK])

    assert answer.value is None
    assert len(answer.token_log_probabilities) < 100


def test_an_answer_that_was_cut_is_none_though_it_could_be_read(
    taught: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_prompt = len(taught.encode(TEXT_TASK).ids)
    monkeypatch.setattr(taught.module.config, "max_position_embeddings", n_prompt + 2)
    (answer,) = taught.generate([TEXT_TASK])  # "gr", of "größer"

    assert len(answer.token_log_probabilities) == 2
    assert answer.value is None


def of_length(model: TransformersModel, n_tokens: int) -> Task:
    bare = Task.from_pairs([("a", "b")], "c")
    return Task.from_pairs([("a", "b" * (1 + n_tokens - len(model.encode(bare).ids)))], "c", id="long")


def test_a_prompt_that_leaves_room_for_one_token_is_answered(tiny: TransformersModel) -> None:
    (answer,) = tiny.generate([of_length(tiny, tiny.context_tokens - 1)])

    assert answer.prompt_tokens == tiny.context_tokens - 1
    assert len(answer.token_log_probabilities) == 1


def test_what_fits_is_what_is_not_refused(tiny: TransformersModel) -> None:
    longest = of_length(tiny, tiny.context_tokens - 1)

    assert tiny.fits(longest)
    assert not tiny.fits(longest, "b")
    assert not tiny.fits(of_length(tiny, tiny.context_tokens))


@pytest.mark.parametrize("said", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("can't allocate memory")])
def test_memory_that_runs_out_is_an_error_of_its_own(
    tiny: TransformersModel, monkeypatch: pytest.MonkeyPatch, said: Exception
) -> None:
    def forward(*_: object, **__: object) -> None:
        raise said

    monkeypatch.setattr(tiny.module.model, "forward", forward)

    for ask in (lambda: tiny.generate(TASKS), lambda: tiny.score(ANSWERED)):
        with pytest.raises(OutOfMemory):
            ask()
    assert tiny.lock.acquire(blocking=False)
    tiny.lock.release()


def test_a_prompt_that_leaves_no_room_is_refused_by_name(tiny: TransformersModel) -> None:
    with pytest.raises(ContextOverflow, match="512") as refused:
        tiny.generate([ROW_TASK, of_length(tiny, tiny.context_tokens)])

    assert refused.value.task_id == "long"
    assert refused.value.remedy
    with pytest.raises(ContextOverflow):
        tiny.score([(of_length(tiny, tiny.context_tokens - 1), "b")])


def test_the_embedded_kind_is_loaded_from_a_folder_in_any_precision(tmp_path: Path) -> None:
    tiny_module().save_pretrained(tmp_path)

    full, half = (load_model(str(tmp_path), device="cpu", dtype=dtype) for dtype in ("auto", "bfloat16"))

    assert full.module.dtype == torch.float32
    assert half.module.dtype == torch.bfloat16
    assert full.fingerprint != half.fingerprint
    assert len(half.generate(TASKS)) == len(half.score(ANSWERED)) == 3


def test_the_shipped_model_loads_by_default_and_is_the_same_every_time() -> None:
    first, again = load_model(device="cpu"), load_model(device="cpu")
    answers = first.generate(TASKS)

    assert first.fingerprint == again.fingerprint
    assert [answer.value for answer in again.generate(TASKS)] == [answer.value for answer in answers]
    assert first.module.config.model_type == "grid_llama"
    assert first.n_parameters > 10**6


def test_no_weight_of_a_loaded_model_is_trainable(tiny: TransformersModel) -> None:
    assert not any(parameter.requires_grad for parameter in tiny.module.parameters())
    assert tiny.n_parameters == sum(parameter.numel() for parameter in tiny.module.parameters())


@pytest.mark.parametrize(
    ("device", "has_cuda", "lacking"),
    [("cpu", False, "a CUDA device and bitsandbytes"), ("cuda", True, "need bitsandbytes")],
)
def test_weights_in_4_bit_say_what_they_lack_and_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, has_cuda: bool, lacking: str
) -> None:
    tiny_module().save_pretrained(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)

    with pytest.raises(ModelUnavailable, match=lacking) as refused:
        load_model(str(tmp_path), device=device, dtype="4bit")

    assert "ttt-router[qlora]" in refused.value.remedy


@pytest.mark.parametrize("given", [{"device": "abacus"}, {"device": "cuda:99"}, {"dtype": "int8"}])
def test_a_device_or_precision_that_is_not_there_is_named_with_what_would_do(
    tmp_path: Path, given: dict[str, str]
) -> None:
    tiny_module().save_pretrained(tmp_path)

    with pytest.raises(ModelUnavailable) as refused:
        load_model(str(tmp_path), device=given.get("device", "auto"), dtype=given.get("dtype", "auto"))

    assert "auto" in refused.value.remedy or "embedded" in refused.value.remedy


def test_a_twin_has_the_same_weights_and_answers_alike_while_the_model_is_held(tiny: TransformersModel) -> None:
    twin = tiny.twin()
    alone = tiny.generate(TASKS)
    with ThreadPoolExecutor(1) as pool, tiny.lock:
        beside = pool.submit(twin.generate, TASKS).result(timeout=30)

    assert beside == alone
    assert twin.fingerprint == tiny.fingerprint
    pairs = zip(tiny.module.parameters(), twin.module.parameters(), strict=True)
    assert all(own.data_ptr() == others.data_ptr() and own is not others for own, others in pairs)


def test_a_model_has_one_twin_and_the_next_who_asks_waits_for_nobody(tiny: TransformersModel) -> None:
    twin = tiny.twin()
    with ThreadPoolExecutor(1) as pool, tiny.lock:
        assert pool.submit(tiny.twin).result(timeout=30) is twin


def test_what_is_put_on_a_model_does_not_show_on_its_twin(tiny: TransformersModel) -> None:
    twin = tiny.twin()
    alone = twin.generate(TASKS)
    weight = next(iter(tiny.module.parameters()))
    original, weight.data = weight.data, torch.zeros_like(weight)
    hook = tiny.module.model.layers[0].register_forward_hook(lambda *_: pytest.fail("hooked"))
    try:
        assert twin.generate(TASKS) == alone
    finally:
        weight.data = original
        hook.remove()
