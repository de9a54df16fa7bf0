"""The three votes: order plays no part, unanimity wins outright, groups speak equally, and ties fall as documented."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from icl_engine.augmentations import TRANSFORMS
from icl_engine.task import Grid, Value
from icl_engine.voting import Vote, oracle, vote_by_score, vote_flat, vote_hierarchically
from tests.icl_engine.task_strategies import grids, texts

A: Grid = ((1, 1), (1, 1))
B: Grid = ((2, 2), (2, 2))
C: Grid = ((3, 3), (3, 3))

log_probabilities = st.floats(-50, 0) | st.sampled_from([-math.inf, math.nan])


def ballots(values: st.SearchStrategy[Grid] | st.SearchStrategy[str]) -> st.SearchStrategy[list[Vote]]:
    return st.lists(
        st.builds(Vote, values, st.sampled_from(sorted(TRANSFORMS)), log_probabilities), min_size=1, max_size=16
    )


def votes(group: str, *values: Value, log_probability: float = -1.0) -> list[Vote]:
    return [Vote(value, group, log_probability) for value in values]


@given(cast=ballots(grids(2, colours=2)) | ballots(texts()), seed=st.integers(0, 99))
def test_the_result_does_not_depend_on_the_order_of_the_votes(cast: list[Vote], seed: int) -> None:
    shuffled = Random(seed).sample(cast, len(cast))

    assert vote_hierarchically(shuffled) == vote_hierarchically(cast)
    assert vote_flat(shuffled) == vote_flat(cast)


@given(cast=ballots(grids(2, colours=2)) | ballots(texts()))
def test_candidates_are_different_and_counted_right(cast: list[Vote]) -> None:
    for candidates in (vote_hierarchically(cast), vote_flat(cast)):
        assert len({candidate.value for candidate in candidates}) == len(candidates) >= 1
        for candidate in candidates:
            assert candidate.n_votes == sum(vote.value == candidate.value for vote in cast)
            assert candidate.share == candidate.n_votes / len(cast)
            assert not math.isnan(candidate.log_probability)
    assert len(vote_hierarchically(cast)) <= 3


@given(value=grids() | texts(), groups=st.lists(st.sampled_from(sorted(TRANSFORMS)), min_size=1, max_size=12))
def test_a_unanimous_vote_wins_with_share_one(value: Value, groups: list[str]) -> None:
    cast = [Vote(value, group, -0.5) for group in groups]

    for (winner,) in (vote_hierarchically(cast), vote_flat(cast)):
        assert (winner.value, winner.share, winner.log_probability) == (value, 1.0, -0.5)


def test_no_votes_give_no_candidates() -> None:
    assert vote_hierarchically([]) == vote_flat([]) == ()


def test_each_transform_speaks_with_one_voice_however_often_it_voted() -> None:
    cast = votes("rotate90", *[A] * 9) + votes("transpose", B) + votes("flip_vertical", B)

    assert vote_flat(cast)[0].value == A
    assert vote_hierarchically(cast)[0].value == B


def test_a_group_sends_on_at_most_three_values() -> None:
    others = [((colour,),) for colour in (5, 6, 7, 8)]
    cast = votes("rotate90", *[value for value in others for _ in range(2)], A) + votes("transpose", A, B, C)

    assert A in {candidate.value for candidate in vote_hierarchically(cast)}
    assert vote_hierarchically(cast)[0].n_votes == 2


def majority_of_rows(ranked: list[Grid], counts: Counter[Grid]) -> Grid:
    """Row by row over the most common shape, ties to the better: the repair of the paper, written out."""
    shapes = Counter[tuple[int, int]]()
    for grid in ranked:
        shapes[len(grid), len(grid[0])] += counts[grid]
    alike = [grid for grid in ranked if (len(grid), len(grid[0])) == max(shapes, key=shapes.__getitem__)]
    majority = []
    for i in range(len(alike[0])):
        rows = Counter[tuple[int, ...]]()
        for grid in alike:
            rows[grid[i]] += counts[grid]
        majority.append(max(rows, key=rows.__getitem__))
    return tuple(majority)


def majority_of_columns(ranked: list[Grid], counts: Counter[Grid]) -> Grid:
    turned = {grid: tuple(zip(*grid, strict=True)) for grid in ranked}
    return tuple(
        zip(
            *majority_of_rows(list(turned.values()), Counter({turned[grid]: counts[grid] for grid in ranked})),
            strict=True,
        )
    )


def sent_on(group: Sequence[Grid]) -> list[Grid]:
    """What a group sends on, as the paper has it: its three commonest grids, places that are left filled by repair."""
    counts = Counter(group)
    ranked = sorted(counts, key=lambda grid: -counts[grid])
    return [*ranked, majority_of_rows(ranked, counts), majority_of_columns(ranked, counts)][:3]


GROUPS_OF_TWO = st.lists(
    st.tuples(grids(3, colours=2), grids(3, colours=2), st.integers(1, 3)).map(
        lambda each: [each[0]] * (each[2] + 1) + [each[1]] * each[2]  # without a tie, which has rules of its own
    ),
    min_size=1,
    max_size=4,
)


@given(groups=GROUPS_OF_TWO)
def test_groups_of_fewer_than_three_grids_count_as_the_paper_s_repair_has_it(groups: list[list[Grid]]) -> None:
    cast = [vote for name, group in zip(sorted(TRANSFORMS), groups, strict=False) for vote in votes(name, *group)]
    counts = Counter[Value](grid for group in groups for grid in sent_on(group))

    found = [counts[candidate.value] for candidate in vote_hierarchically(cast)]

    assert found == sorted(counts.values(), reverse=True)[:3]


def test_a_unanimous_group_outweighs_two_groups_of_three_answers_each() -> None:
    cast = votes("rotate90", A) + votes("transpose", B, C, ((4,),)) + votes("rotate180", B, C, ((5,),))

    assert vote_hierarchically(cast)[0].value == A


def test_text_is_voted_over_without_repair() -> None:
    cast = votes("identity", "yes", "no", "yes")

    assert [(candidate.value, candidate.n_votes) for candidate in vote_hierarchically(cast)] == [("yes", 2), ("no", 1)]


def test_a_tie_goes_to_the_value_more_frequent_under_identity() -> None:
    cast = votes("rotate90", A, log_probability=-0.1) + votes("identity", B, log_probability=-9.0)

    assert vote_hierarchically(cast)[0].value == vote_flat(cast)[0].value == B


def test_a_tie_without_identity_goes_to_more_votes_then_to_the_likelier() -> None:
    more_votes = votes("rotate90", A, A, log_probability=-9.0) + votes("transpose", B, log_probability=-0.1)
    likelier = votes("rotate90", A, log_probability=-9.0) + votes("transpose", B, log_probability=-0.1)

    assert vote_hierarchically(more_votes)[0].value == A
    assert vote_hierarchically(likelier)[0].value == vote_flat(likelier)[0].value == B


def test_a_log_probability_that_is_not_a_number_counts_as_impossible() -> None:
    cast = votes("rotate90", A, log_probability=math.nan) + votes("transpose", B, log_probability=-90.0)

    assert vote_hierarchically(cast)[0].value == B
    assert vote_hierarchically(cast)[1].log_probability == -math.inf


@given(cast=ballots(grids(2, colours=2)) | ballots(texts()), seed=st.integers(0, 99))
def test_the_best_score_wins_whatever_the_votes(cast: list[Vote], seed: int) -> None:
    values = sorted({vote.value for vote in cast}, key=repr)
    scores = {value: -Random(f"{seed}{i}").random() for i, value in enumerate(values)}
    candidates = vote_by_score(Random(seed).sample(cast, len(cast)), scores)

    assert [candidate.value for candidate in candidates] == sorted(values, key=lambda value: -scores[value])
    for candidate in candidates:
        assert candidate.log_probability == scores[candidate.value]
        assert candidate.n_votes == sum(vote.value == candidate.value for vote in cast)


def test_equal_scores_fall_as_the_votes_do_and_what_has_no_score_is_left_out() -> None:
    cast = votes("rotate90", A, B, B, C)

    assert [each.value for each in vote_by_score(cast, {A: -1.0, B: -1.0})] == [B, A]
    assert [each.value for each in vote_by_score(cast, {A: math.nan, B: -90.0})] == [B, A]
    assert vote_by_score([], {A: -1.0}) == ()


def test_the_oracle_finds_a_solution_that_any_vote_names() -> None:
    assert oracle(votes("rotate90", A, B), B)
    assert not oracle(votes("rotate90", A, B), C)
    assert not oracle([], C)
