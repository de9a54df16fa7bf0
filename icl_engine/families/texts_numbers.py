"""Text families over lists of numbers, written in many notations."""

import random
from collections.abc import Callable, Sequence
from itertools import pairwise

from icl_engine.families.list_notations import NOTATIONS, draw_notations, draw_span
from icl_engine.families.text_rules import Example, TextPair, text_family

Numbers = list[int]


def _numbers(rng: random.Random, span: int, shortest: int, longest: int) -> Numbers:
    return [int(rng.random() * (span + 1)) for _ in range(rng.randint(shortest, longest))]


def _over_numbers(
    operation: Callable[[Numbers], Sequence[int | str]], rng: random.Random, shortest: int = 3, longest: int = 6,
    span: int | None = None,
) -> Example:  # fmt: skip
    given, wanted = draw_notations(rng)
    top = draw_span(rng) if span is None else span

    def example(r: random.Random) -> TextPair:
        numbers = _numbers(r, top, shortest, longest)
        return given.write(numbers), wanted.write(operation(numbers))

    return example


def _numbers_to_value(
    operation: Callable[[Numbers], int | str], rng: random.Random, span: int | None = None, shortest: int = 3
) -> Example:
    given = rng.choice(NOTATIONS)
    top = draw_span(rng) if span is None else span

    def example(r: random.Random) -> TextPair:
        numbers = _numbers(r, top, shortest, 6)
        return given.write(numbers), str(operation(numbers))

    return example


def _sort_numbers(rng: random.Random) -> Example:
    descending = rng.random() < 0.4
    return _over_numbers(lambda numbers: sorted(numbers, reverse=descending), rng)


def _filter_numbers(rng: random.Random) -> Example:
    span = draw_span(rng)
    limit = rng.randint(span // 4, 3 * span // 4)
    keep: Callable[[int], bool] = rng.choice((
        lambda x: x % 2 == 0, lambda x: x % 2 == 1, lambda x: x > limit, lambda x: x < limit, lambda x: x % 3 == 0,
    ))  # fmt: skip
    return _over_numbers(lambda numbers: [x for x in numbers if keep(x)], rng, shortest=4, span=span)


def _map_numbers(rng: random.Random) -> Example:
    k = rng.randint(1, 9)
    change: Callable[[int], int] = rng.choice((
        lambda x: x + k, lambda x: x + k, lambda x: x * k + k, lambda x: x * (k + 1), lambda x: x - 1, lambda x: x * x,
        lambda x: 10 * x, lambda x: 2 * x + 1, lambda x: x // 2, lambda x: x % 10, lambda x: max(x, k),
    ))  # fmt: skip
    return _over_numbers(lambda numbers: [change(x) for x in numbers], rng, shortest=2, longest=5)


def _without_repeats(rng: random.Random) -> Example:
    span = rng.randint(3, 6)

    def only_repeated(numbers: Numbers) -> Numbers:
        return [x for x in dict.fromkeys(numbers) if numbers.count(x) > 1]

    def no_neighbours_alike(numbers: Numbers) -> Numbers:
        return [x for i, x in enumerate(numbers) if i == 0 or x != numbers[i - 1]]

    operations: tuple[Callable[[Numbers], Numbers], ...] = (
        lambda numbers: list(dict.fromkeys(numbers)), only_repeated, no_neighbours_alike,
        lambda numbers: [x for x in numbers if numbers.count(x) == 1],
        lambda numbers: sorted(set(numbers)),
    )  # fmt: skip
    return _over_numbers(rng.choice(operations), rng, shortest=4, longest=7, span=span)


def _extreme(rng: random.Random) -> Example:
    operations: tuple[Callable[[Numbers], int], ...] = (
        max, min, max, min, lambda numbers: sorted(numbers)[1], lambda numbers: sorted(numbers)[-2],
        lambda numbers: sorted(numbers)[len(numbers) // 2], lambda numbers: max(numbers) - min(numbers),
        lambda numbers: max(numbers) + min(numbers),
    )  # fmt: skip
    return _numbers_to_value(rng.choice(operations), rng)


def _count_or_total(rng: random.Random) -> Example:
    k = rng.randint(0, 4)
    operations: tuple[Callable[[Numbers], int], ...] = (
        len, sum, sum, lambda numbers: numbers.count(k), lambda numbers: len(set(numbers)),
        lambda numbers: sum(x % 2 == 0 for x in numbers), lambda numbers: sum(x > 4 for x in numbers),
        lambda numbers: numbers[0] + numbers[-1], lambda numbers: numbers[0] * numbers[1],
        lambda numbers: sum(numbers) % 10,
    )  # fmt: skip
    return _numbers_to_value(rng.choice(operations), rng, span=rng.choice((5, 9, 9, 20)), shortest=2)


def _neighbours(rng: random.Random) -> Example:
    def running(numbers: Numbers) -> Numbers:
        return [sum(numbers[: i + 1]) for i in range(len(numbers))]

    def highest_so_far(numbers: Numbers) -> Numbers:
        return [max(numbers[: i + 1]) for i in range(len(numbers))]

    operations: tuple[Callable[[Numbers], Numbers], ...] = (
        running, highest_so_far, lambda numbers: [abs(a - b) for a, b in pairwise(numbers)],
        lambda numbers: [a + b for a, b in pairwise(numbers)],
        lambda numbers: [x + i for i, x in enumerate(numbers)],
        lambda numbers: [x + numbers[0] for x in numbers], lambda numbers: [max(numbers) - x for x in numbers],
        lambda numbers: [sorted(set(numbers)).index(x) + 1 for x in numbers],
    )  # fmt: skip
    return _over_numbers(rng.choice(operations), rng, longest=5, span=rng.choice((9, 9, 20)))


def _two_steps(rng: random.Random) -> Example:
    k = rng.randint(1, 9)
    steps: tuple[Callable[[Numbers], Numbers], ...] = (
        lambda numbers: numbers[::-1], sorted, lambda numbers: numbers[1:], lambda numbers: numbers[:-1],
        lambda numbers: [x + k for x in numbers], lambda numbers: [2 * x for x in numbers],
        lambda numbers: [x for x in numbers if x % 2 == 0], lambda numbers: [*numbers, k],
        lambda numbers: list(dict.fromkeys(numbers)), lambda numbers: [*numbers[1:], *numbers[:1]],
    )  # fmt: skip
    first, second = rng.sample(steps, 2)
    return _over_numbers(lambda numbers: second(first(numbers)), rng, shortest=4, span=9)


def _count_up(rng: random.Random) -> Example:
    step = rng.choice((1, 1, 1, 2, 3, -1, 5, 10))
    layout = rng.choice(("{a} {b}", "{a}..{b}", "from {a} to {b}", "{a}-{b}", "[{a}, {b}]", "{a} > {b}", "({a},{b})"))
    notation = rng.choice(NOTATIONS)
    ends_included = rng.random() < 0.8

    def example(r: random.Random) -> TextPair:
        start, n = r.randint(50, 90), r.randint(3, 6)
        run = [start + i * step for i in range(n)]
        return layout.format(a=run[0], b=run[-1]), notation.write(run if ends_included else run[1:-1])

    return example


NUMBER_LIST_FAMILIES = tuple(
    text_family(name, draw_rule)
    for name, draw_rule in (
        ("list_sort_numbers", _sort_numbers), ("list_filter", _filter_numbers), ("list_map", _map_numbers),
        ("list_without_repeats", _without_repeats), ("list_extreme", _extreme),
        ("list_count_or_total", _count_or_total), ("list_neighbours", _neighbours), ("list_two_steps", _two_steps),
        ("list_count_up", _count_up),
    )
)  # fmt: skip
