"""Text families over lists of numbers, letters or words taken as mere items: order, position, repetition."""

import random
from collections.abc import Callable, Sequence

from icl_engine.families.list_notations import NOTATIONS, draw_item_source, draw_notations
from icl_engine.families.text_rules import Example, TextPair, text_family
from icl_engine.families.words import LETTERS, any_word

Items = list[str]


def _over_items(
    operation: Callable[[Items], Sequence[str]], rng: random.Random, shortest: int = 3, longest: int = 6
) -> Example:
    given, wanted = draw_notations(rng)
    draw_item = draw_item_source(rng)

    def example(r: random.Random) -> TextPair:
        items = [draw_item(r) for _ in range(r.randint(shortest, longest))]
        return given.write(items), wanted.write(operation(items))

    return example


def _reverse(rng: random.Random) -> Example:
    return _over_items(lambda items: items[::-1], rng)


def _drop(rng: random.Random) -> Example:
    first, last = rng.choice(((1, 0), (0, 1), (1, 1), (2, 0), (0, 2)))
    return _over_items(lambda items: items[first : len(items) - last], rng, shortest=4)


def _take(rng: random.Random) -> Example:
    operations: tuple[Callable[[Items], Items], ...] = (
        lambda items: items[:1], lambda items: items[-1:], lambda items: items[:2], lambda items: items[-2:],
        lambda items: items[1:2], lambda items: items[::2], lambda items: items[1::2], lambda items: items[2:3],
        lambda items: [items[0], items[-1]], lambda items: [items[-1], items[0]], lambda items: items[-2:-1],
    )  # fmt: skip
    return _over_items(rng.choice(operations), rng)


def _position_of(rng: random.Random) -> Example:
    notation, draw_item = rng.choice(NOTATIONS), draw_item_source(rng)
    start = rng.choice((0, 1, 1))
    layout = rng.choice(
        ("{list} ; {item}", "{item} in {list}", "{item}: {list}", "{list} find {item}", "{list} ? {item}")
    )

    def example(r: random.Random) -> TextPair:
        items = list(dict.fromkeys(draw_item(r) for _ in range(r.randint(3, 6))))
        at = r.randrange(len(items))
        return layout.format(list=notation.write(items), item=items[at]), str(at + start)

    return example


def _item_at(rng: random.Random) -> Example:
    notation, draw_item = rng.choice(NOTATIONS), draw_item_source(rng)
    start = rng.choice((0, 1, 1))
    layout = rng.choice(("{list} @ {at}", "item {at} of {list}", "{at}: {list}", "{list} no. {at}", "#{at} {list}"))

    def example(r: random.Random) -> TextPair:
        items = [draw_item(r) for _ in range(r.randint(3, 6))]
        at = r.randrange(len(items))
        return layout.format(list=notation.write(items), at=at + start), items[at]

    return example


def _insert(rng: random.Random) -> Example:
    constant = draw_item_source(rng)(rng)
    operations: tuple[Callable[[Items], Items], ...] = (
        lambda items: [constant, *items], lambda items: [*items, constant], lambda items: [*items, items[0]],
        lambda items: [items[-1], *items], lambda items: [*items, items[-1]], lambda items: [str(len(items)), *items],
        lambda items: [x for item in items for x in (item, item)], lambda items: items + items,
        lambda items: [items[0], constant, *items[1:]], lambda items: [constant, *items, constant],
        lambda items: items + items[::-1],
    )  # fmt: skip
    return _over_items(rng.choice(operations), rng, shortest=2, longest=4)


def _swap_items(rng: random.Random) -> Example:
    operations: tuple[Callable[[Items], Items], ...] = (
        lambda items: [items[-1], *items[1:-1], items[0]], lambda items: [items[1], items[0], *items[2:]],
        lambda items: [*items[1:], items[0]], lambda items: [items[-1], *items[:-1]],
        lambda items: [*items[:-2], items[-1], items[-2]], lambda items: [*items[2:], *items[:2]],
        lambda items: items[::2] + items[1::2], lambda items: [items[0], *items[:0:-1]],
    )  # fmt: skip
    return _over_items(rng.choice(operations), rng, shortest=4)


def _replace_items(rng: random.Random) -> Example:
    letters = rng.random() < 0.5
    alphabet = rng.sample(LETTERS, 5) if letters else rng.sample("0123456789", 5)
    old, new = alphabet[0], rng.choice((alphabet[1], rng.choice("*?_X")))
    drop = rng.random() < 0.25
    given, wanted = draw_notations(rng)

    def example(r: random.Random) -> TextPair:
        items = [*r.choices(alphabet, k=r.randint(2, 5)), old]
        r.shuffle(items)
        changed = [x for x in items if x != old] if drop else [new if x == old else x for x in items]
        return given.write(items), wanted.write(changed)

    return example


def _interleave(rng: random.Random) -> Example:
    notation, wanted = draw_notations(rng)
    draw_item = draw_item_source(rng)
    between = rng.choice((" with ", " & ", " / ", " // ", " == ", " then "))
    operations: tuple[Callable[[Items, Items], Items], ...] = (
        lambda a, b: a + b, lambda a, b: b + a, lambda a, b: [x for two in zip(a, b, strict=True) for x in two],
        lambda a, b: [x + y for x, y in zip(a, b, strict=True)], lambda a, b: [a[0], b[0]], lambda a, b: [a[-1], b[-1]],
        lambda a, b: a + b[::-1],
    )  # fmt: skip
    operation = rng.choice(operations)

    def example(r: random.Random) -> TextPair:
        n = r.randint(2, 3)
        left, right = [draw_item(r) for _ in range(n)], [draw_item(r) for _ in range(n)]
        return notation.write(left) + between + notation.write(right), wanted.write(operation(left, right))

    return example


def _run_lengths(rng: random.Random) -> Example:
    alphabet = rng.sample(LETTERS, 4) if rng.random() < 0.6 else list("0123")
    layout = rng.choice(("{n}{x}", "{x}{n}", "{x}*{n}", "{n} {x}", "{x}:{n}"))
    joint = rng.choice((" ", ",", ", ", "+"))
    packs = rng.random() < 0.6

    def example(r: random.Random) -> TextPair:
        runs: list[tuple[str, int]] = []
        for _ in range(r.randint(2, 4)):
            runs.append((r.choice([x for x in alphabet if not runs or x != runs[-1][0]]), r.randint(1, 4)))
        long, short = "".join(x * n for x, n in runs), joint.join(layout.format(x=x, n=n) for x, n in runs)
        return (long, short) if packs else (short, long)

    return example


def _sort_items(rng: random.Random) -> Example:
    keys: tuple[Callable[[str], str], ...] = (str, str, lambda item: f"{len(item):02}", lambda item: item[-1])
    key = rng.choice(keys)
    descending = rng.random() < 0.25
    given, wanted = draw_notations(rng)
    most = rng.choice((4, 5, 5, 6, 8, 10, 12))

    def example(r: random.Random) -> TextPair:
        items = [any_word(r) for _ in range(r.randint(max(2, most // 2), most))]
        ordered = sorted(items, key=key, reverse=descending)
        return given.write(items), wanted.write(ordered)

    return example


def _pick_word(rng: random.Random) -> Example:
    given = rng.choice(NOTATIONS)
    pick: Callable[[Items], str] = rng.choice((
        lambda items: max(items, key=len), lambda items: min(items, key=len), min, max,
        lambda items: "".join(item[0] for item in items),
        lambda items: "".join(item[-1] for item in items), lambda items: str(sum(map(len, items))),
    ))  # fmt: skip

    def example(r: random.Random) -> TextPair:
        items = [any_word(r) for _ in range(r.randint(3, 4))]
        return given.write(items), pick(items)

    return example


def _change_each_word(rng: random.Random) -> Example:
    given, wanted = draw_notations(rng)
    change: Callable[[str], str] = rng.choice((
        str.upper, str.capitalize, lambda word: word[::-1], lambda word: word[0], lambda word: str(len(word)),
        lambda word: word[1:], lambda word: word[:-1], lambda word: word[:3], lambda word: f"'{word}'",
        lambda word: word[-1],
    ))  # fmt: skip

    def example(r: random.Random) -> TextPair:
        items = [any_word(r) for _ in range(r.randint(2, 4))]
        return given.write(items), wanted.write([change(item) for item in items])

    return example


ITEM_LIST_FAMILIES = tuple(
    text_family(name, draw_rule)
    for name, draw_rule in (
        ("list_reverse", _reverse), ("list_drop", _drop), ("list_take", _take), ("list_position_of", _position_of),
        ("list_item_at", _item_at), ("list_insert", _insert), ("list_swap", _swap_items),
        ("list_replace", _replace_items), ("list_interleave", _interleave), ("list_run_lengths", _run_lengths),
        ("list_sort_words", _sort_items), ("list_pick_word", _pick_word),
        ("list_change_each_word", _change_each_word),
    )
)  # fmt: skip
