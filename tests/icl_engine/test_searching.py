"""The search finds exactly what going through every answer finds, and the greedy answer beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from random import Random
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import settings as testing
from hypothesis import strategies as st
from transformers import DynamicCache, LlamaConfig

from icl_engine.decoding import Decoded, decode
from icl_engine.reading import Positions
from icl_engine.searching import SearchedPrompt, search
from icl_engine.transformers_model import TransformersModel
from tests.models import ROW_TASK, TASKS

END, VOCABULARY = 0, 4
PAD = 9
NO_POSITIONS: Positions = lambda ids, mask: ids  # noqa: E731


class HashedModule:
    """A model whose logits are drawn by what stands before, which it finds in its cache and nowhere else."""

    def __init__(self, seed: int, spread: float) -> None:
        self.seed, self.spread = seed, spread
        self.device = torch.device("cpu")
        self.config = LlamaConfig(num_hidden_layers=1)

    def logits(self, before: Sequence[int]) -> list[float]:
        rng = Random(f"{self.seed}{list(before)}")
        return [rng.gauss(0, self.spread) for _ in range(VOCABULARY)]

    def __call__(
        self,
        *,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        past_key_values: DynamicCache,
        logits_to_keep: torch.Tensor | int,
        **_: object,
    ) -> SimpleNamespace:
        states = input_ids[:, None, :, None].float()
        read = past_key_values.update(states, states, 0)[0][:, 0, :, 0].int()
        n_new = input_ids.shape[1]
        places = range(n_new) if isinstance(logits_to_keep, int) else logits_to_keep.tolist()
        stops = [read.shape[1] - n_new + place + 1 for place in places]
        rows = [
            [self.logits(ids[:stop][mask[:stop] == 1].tolist()) for stop in stops]
            for ids, mask in zip(read, attention_mask, strict=True)
        ]
        return SimpleNamespace(logits=torch.tensor(rows).reshape(len(rows), len(stops), VOCABULARY))


class NoneTwice:
    """A constraint that hangs on the answer so far: no token follows itself."""

    def __init__(self, n_rows: int) -> None:
        self.newest: list[int | None] = [None] * n_rows

    def allowed(self) -> torch.Tensor:
        return torch.tensor([[token != newest for token in range(VOCABULARY)] for newest in self.newest])

    def chose(self, tokens: Sequence[int | None]) -> None:
        self.newest = [new if new is not None else old for new, old in zip(tokens, self.newest, strict=True)]

    def keep(self, rows: Sequence[int]) -> None:
        self.newest = [self.newest[row] for row in rows]


def every_answer(
    module: HashedModule, prompt: Sequence[int], limit: int, ids: tuple[int, ...] = ()
) -> Iterator[tuple[tuple[int, ...], float]]:
    """Yield every answer that ends within the limit, with its log-probability."""
    logits = {token: x for token, x in enumerate(module.logits([*prompt, *ids])) if token not in ids[-1:]}
    total = math.log(sum(map(math.exp, logits.values())))
    for token, logit in logits.items():
        if token == END:
            yield ids, logit - total
        elif len(ids) + 1 < limit:
            for whole, log_probability in every_answer(module, prompt, limit, (*ids, token)):
                yield whole, logit - total + log_probability


def searched(
    module: HashedModule,
    prompts: Sequence[Sequence[int]],
    limits: Sequence[int],
    *,
    cut_off: float,
    max_nodes: int = 4096,
) -> list[SearchedPrompt]:
    return search(
        module, prompts, max_new_tokens=limits, end_ids=frozenset({END}), pad_id=PAD, positions=NO_POSITIONS,
        constraint=NoneTwice(len(prompts)), cut_off=cut_off, max_nodes=max_nodes,
    )  # fmt: skip


def greedy(module: HashedModule, prompts: Sequence[Sequence[int]], limits: Sequence[int]) -> list[Decoded]:
    decoded, _ = decode(
        module, prompts, max_new_tokens=limits, end_ids=frozenset({END}), pad_id=PAD, positions=NO_POSITIONS,
        constraint=NoneTwice(len(prompts)),
    )  # fmt: skip
    return decoded


prompts = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=3), min_size=1, max_size=3)


@testing(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    spread=st.sampled_from([0.5, 1.5, 4.0]),
    asked=prompts,
    cut_off=st.sampled_from([0.5, 0.2, 0.09, 0.03, 0.005]),
    limit=st.integers(1, 5),
)
def test_exactly_the_answers_at_or_above_the_cut_off_are_found(
    seed: int, spread: float, asked: list[list[int]], cut_off: float, limit: int
) -> None:
    module = HashedModule(seed, spread)

    for prompt, result in zip(asked, searched(module, asked, [limit] * len(asked), cut_off=cut_off), strict=True):
        expected = {ids: chance for ids, chance in every_answer(module, prompt, limit) if chance >= math.log(cut_off)}
        chances = [leaf.log_probability for leaf in result.leaves]

        assert {leaf.ids: leaf.log_probability for leaf in result.leaves} == pytest.approx(expected, abs=1e-4)
        assert len(expected) == len(result.leaves)
        assert chances == sorted(chances, reverse=True)


@testing(max_examples=30)
@given(seed=st.integers(0, 10**6), asked=prompts, cut_off=st.sampled_from([1.0, 0.3, 0.02]))
def test_the_greedy_answer_is_that_of_decoding_however_unlikely(
    seed: int, asked: list[list[int]], cut_off: float
) -> None:
    module, limits = HashedModule(seed, spread=1.0), [1 + len(prompt) for prompt in asked]

    for result, row in zip(
        searched(module, asked, limits, cut_off=cut_off), greedy(module, asked, limits), strict=True
    ):
        assert (result.greedy.ids, result.greedy.ended) == (row.ids, row.ended)
        assert result.greedy.log_probabilities == pytest.approx(row.log_probabilities, abs=1e-4)


def test_beyond_so_many_nodes_only_the_greedy_answer_goes_on() -> None:
    module = HashedModule(seed=1, spread=0.1)
    (whole,) = searched(module, [[1]], [6], cut_off=0.005)
    (bounded,) = searched(module, [[1]], [6], cut_off=0.005, max_nodes=10)

    assert bounded.n_read <= 10 + 6 < whole.n_read
    assert bounded.greedy == whole.greedy
    assert set(bounded.leaves) < set(whole.leaves)


def test_no_more_prefixes_are_read_at_once_than_can_be_as_likely_as_that() -> None:
    class Watched(HashedModule):
        most = 0

        def __call__(self, *, input_ids: torch.Tensor, **more: object) -> SimpleNamespace:
            self.most = max(self.most, len(input_ids))
            return super().__call__(input_ids=input_ids, **more)  # type: ignore[arg-type]

    module = Watched(seed=3, spread=0.1)
    searched(module, [[1], [2, 3]], [8, 8], cut_off=0.05)

    assert module.most <= 2 * (20 + 1)  # the greedy one may be below


def test_a_prefix_is_read_once_and_changes_nothing() -> None:
    module = HashedModule(seed=5, spread=1.0)
    whole = searched(module, [[1, 2, 3], [1, 2, 1]], [5, 5], cut_off=0.03)
    shared = search(
        module, [[3], [1]], prefix=[1, 2], cut_off=0.03, max_new_tokens=[5, 5], end_ids=frozenset({END}), pad_id=PAD,
        positions=NO_POSITIONS, constraint=NoneTwice(2),
    )  # fmt: skip

    assert shared == whole


@pytest.mark.parametrize("name", ["tiny", "taught"])
def test_a_model_finds_its_greedy_answer_and_scores_what_it_finds(request: pytest.FixtureRequest, name: str) -> None:
    model: TransformersModel = request.getfixturevalue(name)
    plain = model.generate(TASKS)

    for said, result in zip(plain, model.search(TASKS, cut_off=0.05), strict=True):
        assert result.greedy.value == said.value
        assert result.greedy.token_log_probabilities == pytest.approx(said.token_log_probabilities, abs=1e-4)
        assert result.tokens >= said.tokens
        assert sum(math.exp(each.log_probability) for each in result.found) <= 1 + 1e-4
        assert len({each.value for each in result.found}) == len(result.found)
        if said.value is not None and said.log_probability > math.log(0.06):
            assert said.value in {each.value for each in result.found}


def test_several_queries_of_the_same_demonstrations_are_searched_as_each_is_alone(taught: TransformersModel) -> None:
    tasks = [ROW_TASK, ROW_TASK.replace(queries=(((1, 1),),)), ROW_TASK.replace(queries=(((2, 2, 0, 1),),))]

    for together, task in zip(taught.search(tasks, cut_off=0.02), tasks, strict=True):
        (alone,) = taught.search([task], cut_off=0.02)

        assert [each.value for each in together.found] == [each.value for each in alone.found]
        assert together.greedy.value == alone.greedy.value
