"""Decoding in a batch is decoding one by one, decoding with a cache is reading everything again for each token, and a
draft changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import settings as testing
from hypothesis import strategies as st

from icl_engine.decoding import MOST_MARGIN, Decoded, decode
from icl_engine.embedded.vocabulary import END, PAD, VOCABULARY_SIZE
from icl_engine.reading import Reading, left_padded
from icl_engine.transformers_model import TransformersModel
from tests.models import GRID_TASK, ROW_TASK, TASKS, TEXT_TASK, Anything

N_NEW = 12


def prompts_of(model: TransformersModel) -> list[tuple[int, ...]]:
    return [model.encode(task).ids for task in TASKS]


def free(
    model: TransformersModel,
    prompts: list[tuple[int, ...]],
    *,
    end_ids: frozenset[int] = frozenset(),
    limits: list[int] | None = None,
    drafts: list[tuple[int, ...]] | None = None,
    prefix: tuple[int, ...] = (),
    on_keep: Callable[[list[int]], None] = lambda rows: None,
) -> list[Decoded]:
    """Decode with no token forbidden."""
    decoded, _ = decode(
        model.module,
        prompts,
        max_new_tokens=limits or [N_NEW] * len(prompts),
        end_ids=end_ids,
        pad_id=PAD,
        positions=model.encoding.positions,
        constraint=Anything(len(prompts), VOCABULARY_SIZE),
        prefix=prefix,
        drafts=drafts,
        on_keep=on_keep,
    )
    return decoded


def same(row: Decoded, other: Decoded) -> bool:
    return (
        (row.ids, row.ended) == (other.ids, other.ended)
        and row.log_probabilities == pytest.approx(other.log_probabilities, abs=1e-4)
    )  # fmt: skip


def test_padding_stands_on_the_left_and_is_masked() -> None:
    ids, mask = left_padded([[5, 6, 7], [8]], pad_id=PAD, device=torch.device("cpu"))

    assert ids.tolist() == [[5, 6, 7], [PAD, PAD, 8]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]


def test_a_batch_of_different_lengths_gives_what_each_prompt_gives_alone(tiny: TransformersModel) -> None:
    prompts = prompts_of(tiny)
    together = free(tiny, prompts)
    alone = [free(tiny, [prompt])[0] for prompt in prompts]

    assert len({len(prompt) for prompt in prompts}) == len(prompts)
    assert all(map(same, together, alone))


def test_the_cache_changes_nothing(tiny: TransformersModel) -> None:
    prompts = prompts_of(tiny)

    for prompt, row in zip(prompts, free(tiny, prompts), strict=True):
        ids = list(prompt)
        for token, log_probability in zip(row.ids, row.log_probabilities, strict=True):
            with torch.no_grad():
                log_p = tiny.module(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].log_softmax(-1)

            assert int(log_p.argmax()) == token
            assert float(log_p[token]) == pytest.approx(log_probability, abs=1e-4)
            ids.append(token)


def test_what_is_read_token_by_token_is_what_is_read_at_once_also_where_rows_leave_and_tokens_are_taken_back(
    tiny: TransformersModel,
) -> None:
    ids, mask = left_padded(prompts_of(tiny), PAD, tiny.device)
    reading = Reading(tiny.module, len(ids), pad_id=PAD, positions=tiny.encoding.positions)
    with torch.inference_mode():
        reading.read(ids, mask)
        for step in range(200):
            logits = reading.read_token([(step * row) % 10 for row in range(len(reading.ids))])
            if step == 80:
                reading.keep([2, 0, 0])
            if step == 120:
                reading.forget([3, 0, 90])
        anew = Reading(tiny.module, 3, pad_id=PAD, positions=tiny.encoding.positions)

        assert torch.allclose(anew.read(reading.ids, reading.mask)[:, -1], logits, atol=1e-4)


def test_entropy_and_margin_are_of_the_very_choice_a_plain_pass_gives(tiny: TransformersModel) -> None:
    prompts = prompts_of(tiny)

    for prompt, row in zip(prompts, free(tiny, prompts), strict=True):
        ids = list(prompt)
        assert len(row.entropies) == len(row.margins) == len(row.log_probabilities)
        for token, entropy, margin in zip(row.ids, row.entropies, row.margins, strict=True):
            with torch.no_grad():
                log_p = tiny.module(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].log_softmax(-1)
            first, second = log_p.topk(2).values.tolist()

            assert entropy == pytest.approx(float(-(log_p.exp() * log_p).sum()), abs=1e-3)
            assert margin == pytest.approx(min(first - second, MOST_MARGIN), abs=1e-3)
            ids.append(token)


def test_where_one_token_alone_is_allowed_there_is_no_doubt(tiny: TransformersModel) -> None:
    only = Anything(1, VOCABULARY_SIZE)
    only.rows[:] = False
    only.rows[0, 7] = True
    ((row,), _) = decode(
        tiny.module, prompts_of(tiny)[:1], max_new_tokens=[2], end_ids=frozenset(), pad_id=PAD,
        positions=tiny.encoding.positions, constraint=only,
    )  # fmt: skip

    assert row.ids == (7, 7)
    assert (row.log_probabilities, row.entropies, row.margins) == ((0.0, 0.0), (0.0, 0.0), (MOST_MARGIN,) * 2)


def test_what_each_row_may_write_is_its_own(tiny: TransformersModel) -> None:
    prompts, allowed = prompts_of(tiny), [range(3, 9), range(40, 60), (7, 50, 1800)]
    apart = Anything(len(prompts), VOCABULARY_SIZE)
    apart.rows[:] = False
    for row, tokens in zip(apart.rows, allowed, strict=True):
        row[list(tokens)] = True
    decoded, _ = decode(
        tiny.module, prompts, max_new_tokens=[1] * len(prompts), end_ids=frozenset(), pad_id=PAD,
        positions=tiny.encoding.positions, constraint=apart,
    )  # fmt: skip

    for prompt, tokens, row in zip(prompts, allowed, decoded, strict=True):
        with torch.no_grad():
            logits = tiny.module(input_ids=torch.tensor([list(prompt)]), use_cache=False).logits[0, -1]
        log_p = logits[list(tokens)].log_softmax(-1)
        assert row.ids == (tokens[int(log_p.argmax())],)
        assert row.log_probabilities == pytest.approx((float(log_p.max()),), abs=1e-3)
        assert row.entropies == pytest.approx((float(-(log_p.exp() * log_p).sum()),), abs=1e-3)


def test_each_row_ends_at_its_own_end_token_and_the_others_go_on(tiny: TransformersModel) -> None:
    prompts = prompts_of(tiny)
    endless = free(tiny, prompts)
    assert not any(row.ended for row in endless)

    for end in sorted({token for row in endless for token in row.ids}):
        for row, whole in zip(free(tiny, prompts, end_ids=frozenset({end})), endless, strict=True):
            ended = end in whole.ids
            n = whole.ids.index(end) if ended else N_NEW

            assert row.ended == ended
            assert row.ids == whole.ids[:n]
            assert row.log_probabilities == pytest.approx(whole.log_probabilities[: n + ended], abs=1e-4)


@pytest.mark.parametrize("limits", [[1, 5, 12], [12, 1, 5], [3, 3, 3]])
def test_each_row_stops_at_its_own_limit(tiny: TransformersModel, limits: list[int]) -> None:
    prompts = prompts_of(tiny)
    endless = free(tiny, prompts)

    for row, whole, limit in zip(free(tiny, prompts, limits=limits), endless, limits, strict=True):
        assert row.ids == whole.ids[:limit]
        assert len(row.log_probabilities) == limit


def test_no_forbidden_token_is_chosen_and_the_rest_share_its_probability(tiny: TransformersModel) -> None:
    prompt = tiny.encode(ROW_TASK).ids
    allowed = tiny.encoding.constraint([ROW_TASK], tiny.device).allowed()[0]
    (row,), _ = decode(
        tiny.module,
        [prompt],
        max_new_tokens=[1],
        end_ids=frozenset({END}),
        pad_id=PAD,
        positions=tiny.encoding.positions,
        constraint=tiny.encoding.constraint([ROW_TASK], tiny.device),
    )
    with torch.no_grad():
        logits = tiny.module(input_ids=torch.tensor([prompt])).logits[0, -1]
    log_p = logits[allowed].log_softmax(-1)

    assert row.ids == (int(allowed.nonzero()[log_p.argmax()]),)
    assert row.log_probabilities == pytest.approx([float(log_p.max())], abs=1e-4)


def test_kept_logits_are_those_of_a_plain_pass(tiny: TransformersModel) -> None:
    prompts = [tiny.encode(task).ids for task in (GRID_TASK, TEXT_TASK)]
    width = max(map(len, prompts))
    places = [width - 9, width - 4, width - 2]
    _, kept = decode(
        tiny.module,
        prompts,
        max_new_tokens=[2, 2],
        end_ids=frozenset({END}),
        pad_id=PAD,
        positions=tiny.encoding.positions,
        constraint=Anything(2, VOCABULARY_SIZE),
        kept_logits=places,
    )

    for prompt, logits in zip(prompts, kept, strict=True):
        with torch.no_grad():
            plain = tiny.module(input_ids=torch.tensor([prompt])).logits[0]

        assert torch.allclose(logits, plain[[place - width + len(prompt) for place in places]], atol=1e-4)


def test_a_prefix_that_is_read_once_gives_what_whole_prompts_give(tiny: TransformersModel) -> None:
    queries = [TEXT_TASK.query, "True", "not a b", "größer als"]
    encoded = [tiny.encode(TEXT_TASK.replace(queries=(query,))) for query in queries]
    n = encoded[0].query_start
    assert len({row.ids[:n] for row in encoded}) == 1
    whole = free(tiny, [row.ids for row in encoded])
    places = [3, n - 1]

    shared, kept = decode(
        tiny.module,
        [row.ids[n:] for row in encoded],
        max_new_tokens=[N_NEW] * len(queries),
        end_ids=frozenset(),
        pad_id=PAD,
        positions=tiny.encoding.positions,
        constraint=Anything(len(queries), VOCABULARY_SIZE),
        prefix=encoded[0].ids[:n],
        kept_logits=places,
    )

    with torch.no_grad():
        plain = tiny.module(input_ids=torch.tensor([encoded[0].ids])).logits[0, places]
    assert kept.shape[:2] == (len(queries), len(places))
    assert all(torch.allclose(logits, plain, atol=1e-4) for logits in kept)
    assert all(map(same, shared, whole))


@testing(max_examples=30)
@given(data=st.data())
def test_a_draft_changes_nothing_whatever_it_says(tiny: TransformersModel, data: st.DataObject) -> None:
    prompts = prompts_of(tiny)
    endless = free(tiny, prompts)
    ends = data.draw(
        st.frozensets(st.sampled_from(sorted({token for row in endless for token in row.ids})), max_size=2)
    )
    limits = [data.draw(st.integers(1, N_NEW)) for _ in prompts]
    drafts = [
        (*row.ids[: data.draw(st.integers(0, N_NEW))], *data.draw(st.lists(st.integers(0, 9), max_size=3)))
        for row in endless
    ]

    drafted = free(tiny, prompts, end_ids=ends, limits=limits, drafts=drafts)

    assert all(map(same, drafted, free(tiny, prompts, end_ids=ends, limits=limits)))


def test_a_draft_changes_nothing_after_a_prefix(tiny: TransformersModel) -> None:
    encoded = [tiny.encode(TEXT_TASK.replace(queries=(query,))) for query in ("True", "not a b", "größer als")]
    n = encoded[0].query_start
    prompts = [row.ids[n:] for row in encoded]
    plain = free(tiny, prompts, prefix=encoded[0].ids[:n])
    drafts = [plain[0].ids[:7], (), (*plain[2].ids[:3], 1, 2)]

    assert all(map(same, free(tiny, prompts, prefix=encoded[0].ids[:n], drafts=drafts), plain))


def test_what_is_drafted_right_is_not_written_token_by_token(
    tiny: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = prompts_of(tiny)
    drafts = [row.ids for row in free(tiny, prompts)]
    forward, widths = tiny.module.forward, list[int]()

    def counted(*args: object, input_ids: torch.Tensor, **kwargs: object) -> object:
        widths.append(input_ids.shape[1])
        return forward(*args, input_ids=input_ids, **kwargs)

    monkeypatch.setattr(tiny.module, "forward", counted)
    free(tiny, prompts, drafts=drafts)

    assert widths == [max(map(len, prompts)) + N_NEW]


def test_the_observer_is_told_of_every_drop(tiny: TransformersModel) -> None:
    told = list[list[int]]()
    free(tiny, prompts_of(tiny), limits=[5, 1, 3], on_keep=told.append)

    assert told == [[0, 2], [0]]
