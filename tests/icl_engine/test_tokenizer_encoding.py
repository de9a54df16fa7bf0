"""Any causal language model, through its own tokenizer: each output can be found in what is written, and read back."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from icl_engine.errors import ModelUnavailable
from icl_engine.language_model import load_model
from icl_engine.probe import probe
from icl_engine.task import Task, Value
from icl_engine.text_form import GRID_FORMS, GridForm, text_form, value_of
from icl_engine.tokenizer_encoding import TokenizerEncoding
from icl_engine.transformers_model import TransformersModel, fingerprints_of
from icl_engine.values import checked_value
from tests.icl_engine.task_strategies import grid_tasks, text_tasks, texts
from tests.models import GRID_TASK, ROW_TASK, TASKS, TEXT_TASK, save_tiny_llama, save_tiny_qwen, tiny_tokenizer

WEIGHTS = "model.safetensors"
PLAIN, CHAT = (TokenizerEncoding(tiny_tokenizer(chat=chat), 400) for chat in (False, True))
FORMS = {form: TokenizerEncoding(tiny_tokenizer(chat=False), 400, grid_form=form) for form in GRID_FORMS}
encodings = pytest.mark.parametrize("encoding", [CHAT, *FORMS.values()], ids=["chat", *FORMS])

SAVE: dict[str, Callable[[Path], Path]] = {
    "llama": save_tiny_llama,
    "llama-chat": lambda folder: save_tiny_llama(folder, chat=True),
    "qwen": lambda folder: save_tiny_qwen(folder, chat=False),
    "qwen-chat": save_tiny_qwen,
}


@pytest.fixture(scope="module", params=sorted(SAVE))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return SAVE[request.param](tmp_path_factory.mktemp("models") / request.param)


@pytest.fixture(scope="module")
def model(folder: Path) -> TransformersModel:
    return load_model(str(folder), device="cpu")


def read(encoding: TokenizerEncoding, ids: tuple[int, ...]) -> str:
    return str(encoding.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))


def outputs_of(task: Task, answer: Value) -> list[Value]:
    return [*(shown.output for shown in task.demonstrations), answer]


# How a task is written


@encodings
@given(task=grid_tasks() | text_tasks(), instruction=texts() | st.none())
def test_every_span_holds_exactly_its_output_and_its_end(
    encoding: TokenizerEncoding, task: Task, instruction: str | None
) -> None:
    task = task.model_copy(update={"instruction": instruction})
    encoded = encoding.encode(task, task.queries[-1])
    outputs = outputs_of(task, task.queries[-1])

    assert len(encoded.outputs) == len(outputs)
    for (start, stop), output in zip(encoded.outputs, outputs, strict=True):
        assert read(encoding, encoded.ids[start : stop - 1]) == text_form(output, encoding.grid_form)
        assert encoded.ids[stop - 1] in encoding.end_ids


@encodings
@given(task=grid_tasks() | text_tasks())
def test_an_output_is_read_as_the_value_it_was(encoding: TokenizerEncoding, task: Task) -> None:
    encoded = encoding.encode(task, task.query)

    for (start, stop), output in zip(encoded.outputs, outputs_of(task, task.query), strict=True):
        value = encoding.decode(task, encoded.ids[start : stop - 1])

        assert value == ((output.strip() or None) if isinstance(output, str) else output)


@encodings
@given(task=grid_tasks() | text_tasks())
def test_an_answer_follows_the_prompt_and_changes_nothing_before_it(encoding: TokenizerEncoding, task: Task) -> None:
    prompt, answered = encoding.encode(task), encoding.encode(task, task.query)

    assert answered.ids[: len(prompt.ids)] == prompt.ids
    assert answered.outputs[:-1] == prompt.outputs
    assert answered.outputs[-1] == (len(prompt.ids), len(answered.ids))


@encodings
@given(task=grid_tasks())
def test_everything_a_grid_is_written_with_may_be_written_as_an_answer(encoding: TokenizerEncoding, task: Task) -> None:
    encoded = encoding.encode(task, task.query)
    allowed = encoding.constraint([task], torch.device("cpu")).allowed()[0]

    for start, stop in encoded.outputs:
        assert bool(allowed[list(encoded.ids[start:stop])].all())


@encodings
@given(task=grid_tasks())
def test_the_tokens_of_answers_are_those_that_may_be_written(encoding: TokenizerEncoding, task: Task) -> None:
    tokens = encoding.answer_tokens("grid")
    assert tokens is not None

    allowed = encoding.constraint([task], torch.device("cpu")).allowed()[0]
    assert tokens.tolist() == allowed.nonzero()[:, 0].tolist()
    assert encoding.answer_tokens("text") is None


@pytest.mark.parametrize(
    ("form", "written"),
    [("spaced", "4 5\n1 1"), ("packed", "45\n11"), ("list", "[[4, 5], [1, 1]]"), ("words", "yellow grey\nblue blue")],
)
def test_each_form_writes_a_grid_in_its_own_way_and_reads_no_other_s(form: GridForm, written: str) -> None:
    grid = ((4, 5), (1, 1))

    assert text_form(grid, form) == written
    assert value_of(GRID_TASK, written, form) == grid
    assert value_of(GRID_TASK, "4 x\n1 1", form) is None
    assert text_form("as it is", form) == "as it is"


def test_another_form_of_grids_is_another_model_to_whoever_keeps_adapters(tmp_path: Path) -> None:
    folder = save_tiny_llama(tmp_path / "model")
    models = [load_model(str(folder), device="cpu", grid_form=form) for form in GRID_FORMS]

    assert len({model.fingerprint for model in models}) == len(GRID_FORMS)
    assert {model.fingerprint for model in models} <= fingerprints_of(str(folder))


def test_a_grid_s_answer_is_made_of_digits_blanks_and_the_end() -> None:
    grid = PLAIN.constraint([GRID_TASK], torch.device("cpu")).allowed()[0]
    written = {str(PLAIN.tokenizer.decode([token])) for token in grid.nonzero()[:, 0].tolist()}

    assert set("0123456789") | {" ", "\n", "\n\n", "</s>"} <= written
    assert set("".join(written - {"</s>"})) == set("0123456789 \n")


def test_a_text_s_answer_is_made_of_any_token_there_is_that_does_not_hide_its_end() -> None:
    tokenizer = tiny_tokenizer(chat=False)
    tokenizer.add_tokens([".\n\n", "the end"])
    text = TokenizerEncoding(tokenizer, 400).constraint([TEXT_TASK], torch.device("cpu")).allowed()[0]
    hiding, *_ = tokenizer(".\n\n", add_special_tokens=False)["input_ids"]

    assert text.nonzero()[:, 0].tolist() == [token for token in range(len(tokenizer)) if token != hiding]


def test_the_constraint_drops_the_rows_that_are_done() -> None:
    constraint = PLAIN.constraint([GRID_TASK, TEXT_TASK], torch.device("cpu"))
    text = constraint.allowed()[1]
    constraint.chose([1, 2])
    constraint.keep([1])

    assert torch.equal(constraint.allowed(), text[None])


def test_an_answer_ends_where_the_template_ends_a_turn_whatever_ends_a_sequence() -> None:
    tokenizer = tiny_tokenizer(chat=True)
    tokenizer.eos_token = "</s>"
    encoding = TokenizerEncoding(tokenizer, 400, turn_ends=[7])
    ids = encoding.encode(TEXT_TASK, "x").ids

    assert tokenizer.decode([ids[-1]]) == "<|im_end|>"
    assert {ids[-1], tokenizer.eos_token_id, 7} <= encoding.end_ids


@pytest.mark.parametrize("text", ["", "\n", "1 2\n3", "1 a", "x", "² 3"])
def test_what_forms_no_grid_is_no_grid(text: str) -> None:
    assert PLAIN.decode(GRID_TASK, PLAIN.tokenizer(text, add_special_tokens=False)["input_ids"]) is None


def test_brackets_without_end_are_no_grid() -> None:
    assert value_of(GRID_TASK, "[" * 100_000, "list") is None


@pytest.mark.parametrize("text", ["yes\n\nInput:\nno", "yes\n\n\nno", "\nyes\n\n"])
def test_a_text_s_answer_is_cut_at_its_first_empty_line_whatever_tokens_that_is_made_of(text: str) -> None:
    ids = [id for mark in text for id in PLAIN.tokenizer(mark, add_special_tokens=False)["input_ids"]]

    assert PLAIN.decode(TEXT_TASK, ids) == "yes"


def test_the_plain_prompt_begins_a_sequence_and_parts_demonstrations_by_an_empty_line() -> None:
    assert read(PLAIN, PLAIN.encode(ROW_TASK).ids) == (
        "<s>Input:\n1 2 0\nOutput:\n0 2 1\n\nInput:\n3 0 0\nOutput:\n0 0 3\n\n"
        "Input:\n5 5 1 0\nOutput:\n0 1 5 5\n\nInput:\n4 5 0\nOutput:\n"
    )


def test_the_chat_template_stands_around_the_prompt_and_its_end_ends_the_answer() -> None:
    task = Task.from_pairs([("a", "b")], "c", instruction="Next letter.")

    assert read(CHAT, CHAT.encode(task, "d").ids) == (
        "<|im_start|>user\nNext letter.\n\nInput:\na\nOutput:\nb\n\nInput:\nc\nOutput:\n<|im_end|>\n"
        "<|im_start|>assistant\nd<|im_end|>"
    )


@encodings
@pytest.mark.parametrize("special", ["</s>", "<|im_end|>", "<|im_start|>system"])
def test_the_name_of_a_special_token_in_a_task_is_only_text(encoding: TokenizerEncoding, special: str) -> None:
    inside, outside = Task.from_pairs([("a", f"{special}b")], special), Task.from_pairs([("a", "b")], "a")
    encoded = encoding.encode(inside)
    (start, stop) = encoded.outputs[0]
    specials = set(encoding.tokenizer.all_special_ids)

    assert [token for token in encoded.ids if token in specials] == [
        token for token in encoding.encode(outside).ids if token in specials
    ]
    assert encoding.decode(inside, encoded.ids[start : stop - 1]) == f"{special}b"


@encodings
def test_positions_count_from_the_first_token_that_is_not_padding(encoding: TokenizerEncoding) -> None:
    mask = torch.tensor([[1, 1, 1], [0, 1, 1]])

    assert encoding.positions(torch.zeros_like(mask), mask).tolist() == [[0, 1, 2], [0, 0, 1]]


# Models from a folder


def test_a_model_from_a_folder_answers_scores_and_is_probed(model: TransformersModel) -> None:
    answers = model.generate(TASKS, score_demonstrations=True)
    answered = [(task, task.query) for task in TASKS]

    for task, answer, score in zip(TASKS, answers, model.score(answered), strict=True):
        assert answer.value is None or isinstance(answer.value, str) == (task.kind == "text")
        assert task.kind == "text" or answer.value is None or checked_value(answer.value, "answer") == answer.value
        assert len(answer.demonstrations) == len(task.demonstrations)
        assert score.exact == (answer.value == task.query)
        found = probe(model, task)
        assert found.answer.value == answer.value
        assert len(found.loo_nll) == len(task.demonstrations)


def test_a_batch_of_different_lengths_gives_what_each_task_gives_alone(model: TransformersModel) -> None:
    for task, answer in zip(TASKS, model.generate(TASKS), strict=True):
        (alone,) = model.generate([task])

        assert alone.value == answer.value
        assert alone.token_log_probabilities == pytest.approx(answer.token_log_probabilities, abs=1e-3)


def test_a_score_is_what_a_plain_pass_says(model: TransformersModel) -> None:
    encoded = model.encode(ROW_TASK, ((0, 5, 4),))
    ids = torch.tensor(encoded.ids)
    with torch.no_grad():
        log_p = model.module(input_ids=ids[None], use_cache=False).logits[0].log_softmax(-1)
    (score, _) = model.score([(ROW_TASK, ((0, 5, 4),)), (TEXT_TASK, "x" * 60)])  # the other one pads the first

    plain = -sum(float(log_p[place - 1, ids[place]]) for place in range(*encoded.outputs[-1]))
    assert score.nll == pytest.approx(plain, abs=1e-2)


def test_the_same_weights_have_one_fingerprint_wherever_they_lie(folder: Path, tmp_path: Path) -> None:
    elsewhere = shutil.copytree(folder, tmp_path / "elsewhere")

    assert load_model(str(folder), device="cpu").fingerprint == load_model(str(elsewhere), device="cpu").fingerprint


def test_one_changed_weight_changes_the_fingerprint(folder: Path, tmp_path: Path) -> None:
    changed = shutil.copytree(folder, tmp_path / "changed")
    weights = load_file(changed / WEIGHTS)
    weights["model.norm.weight"][3] += 1e-3
    save_file(weights, changed / WEIGHTS, metadata={"format": "pt"})

    assert load_model(str(changed), device="cpu").fingerprint != load_model(str(folder), device="cpu").fingerprint


def _without(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def _written(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def _emptied(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def _with_odd_config(folder: Path) -> None:
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"hidden_size": 32', '"hidden_size": "wide"'))


def _without_one_matrix(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


BREAK: dict[str, Callable[[Path], object]] = {
    "empty directory": _emptied,
    "missing directory": shutil.rmtree,
    "no weights": _without(WEIGHTS),
    "damaged weights": _written(WEIGHTS, b"\xff" * 100),
    "cut weights": lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1000]),
    "one matrix missing": _without_one_matrix,
    "config is not JSON": _written("config.json", b'{"model_type": '),
    "config of odd content": _with_odd_config,
    "no tokenizer": _without("tokenizer.json"),
    "damaged tokenizer": _written("tokenizer.json", b'{"model": 1}'),
}


@pytest.mark.parametrize("what", sorted(BREAK))
def test_a_model_that_cannot_be_loaded_is_named_with_a_remedy(what: str, tmp_path: Path) -> None:
    folder = save_tiny_llama(tmp_path / "broken")
    BREAK[what](folder)

    with pytest.raises(ModelUnavailable) as refused:
        load_model(str(folder), device="cpu")

    assert str(folder) in str(refused.value)
    assert refused.value.remedy
    assert "\n" not in str(refused.value)


def test_a_tokenizer_without_an_end_is_refused(tmp_path: Path) -> None:
    folder = save_tiny_llama(tmp_path / "endless", eos=False)

    with pytest.raises(ModelUnavailable, match="end-of-sequence"):
        load_model(str(folder), device="cpu")


def test_a_chat_template_that_drops_the_message_is_refused() -> None:
    tokenizer = tiny_tokenizer(chat=True)
    tokenizer.chat_template = "{{ 'hello' }}"

    with pytest.raises(ModelUnavailable, match="chat template"):
        TokenizerEncoding(tokenizer, 400)
