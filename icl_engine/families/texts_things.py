"""Text families about things and their kinds, colours and numbers, told in words."""

import random
from collections.abc import Callable

from icl_engine.families.text_rules import Example, TextPair, text_family
from icl_engine.families.wordings import question_style, truth_labels
from icl_engine.families.words import (
    ADJECTIVES,
    CITIES,
    FIRST_NAMES,
    KINDS,
    NOUNS,
    NUMBER_WORDS,
    THINGS,
    with_article,
)


def _count_things(rng: random.Random) -> Example:
    kind, other = rng.sample(tuple(KINDS), 2)
    intro = rng.choice(
        ("{s}. How many {k}s?", "On the table: {s}. {k}s:", "{s} / {k}", "Count each {k}: {s}", "I own {s}. {k} count?")
    )
    in_words, repeats, most = rng.random() < 0.25, rng.random() < 0.5, rng.choice((3, 5, 6))

    def example(r: random.Random) -> TextPair:
        counted = {x: r.choice((1, 1, 2, 3)) if repeats else 1 for x in r.sample(KINDS[kind], r.randint(1, most))}
        odd = {
            x: r.choice((1, 1, 2, 3)) if repeats else 1
            for x in r.sample(KINDS[other], r.randint(0, most // 2))
            if x not in KINDS[kind]
        }
        listed = [with_article(x) if n == 1 else f"{NUMBER_WORDS[n]} {x}" for x, n in (counted | odd).items()]
        r.shuffle(listed)
        total = sum(counted.values())
        return intro.format(s=", ".join(listed), k=kind), NUMBER_WORDS[total] if in_words else str(total)

    return example


def _odd_one_out(rng: random.Random) -> Example:
    wording = rng.choice(("{}", "which does not belong: {}", "odd one: {}", "{} - stranger?"))
    joint = rng.choice((", ", " ", " / "))

    def example(r: random.Random) -> TextPair:
        kind, other = r.sample(tuple(KINDS), 2)
        members = r.sample(KINDS[kind], 3)
        stranger = r.choice([x for x in KINDS[other] if x not in KINDS[kind]])
        return wording.format(joint.join(r.sample([*members, stranger], 4))), stranger

    return example


def _kind_of(rng: random.Random) -> Example:
    kinds = rng.sample(tuple(KINDS), rng.randint(2, 3))
    members = [[x for x in KINDS[kind] if sum(x in KINDS[k] for k in kinds) == 1] for kind in kinds]
    codes = rng.sample("ABCXYZ123", len(kinds)) if rng.random() < 0.3 else kinds
    ask, wording = question_style(rng, share_open=0.7), rng.choice(("{}", "kind of {}", "{} is a", "What is {}?"))

    def example(r: random.Random) -> TextPair:
        at = r.randrange(len(kinds))
        word = r.choice(members[at])
        return ask(r, wording.format(word), codes, codes[at])

    return example


def _pick_member(rng: random.Random) -> Example:
    kind = rng.choice(tuple(KINDS))
    wording = rng.choice(("{s}", "{k}: {s}", "find the {k} in {s}", "Which is {ak}? {s}", "{s} -> {k}"))
    others = [k for k in KINDS if k != kind]

    def example(r: random.Random) -> TextPair:
        word = r.choice(KINDS[kind])
        rest = [r.choice([x for x in KINDS[k] if x not in KINDS[kind]]) for k in r.sample(others, r.randint(2, 3))]
        return wording.format(s=", ".join(r.sample([word, *rest], len(rest) + 1)), k=kind, ak=with_article(kind)), word

    return example


_SHELF_THINGS = tuple(x for x in THINGS if x not in KINDS["colour"])


def _shelf(rng: random.Random) -> Example:
    place = rng.choice(("On the shelf: {s}.", "Left to right: {s}.", "Row of {s}.", "{s}."))
    wording = rng.choice(("Colour of the {x}?", "{x} is", "The {x}?", "What colour has the {x}?"))
    reverse, ask = rng.random() < 0.35, question_style(rng, share_open=0.6)
    other_way = rng.choice(("Which is {c}?", "The {c} thing?", "{c}:"))

    def example(r: random.Random) -> TextPair:
        n = r.randint(3, 4)
        things, colours = r.sample(_SHELF_THINGS, n), r.sample(KINDS["colour"], n)
        i = r.randrange(n)
        told = place.format(s=", ".join(f"{c} {x}" for c, x in zip(colours, things, strict=True))) + " "
        if reverse:
            return ask(r, told + other_way.format(c=colours[i]), things, things[i])
        return ask(r, told + wording.format(x=things[i]), colours, colours[i])

    return example


def _small_table(rng: random.Random) -> Example:
    header, values = rng.choice(
        (("name age", range(20, 80)), ("city km", range(10, 990, 10)), ("item price", range(2, 60)))
    )
    people = {"name": FIRST_NAMES, "city": CITIES, "item": NOUNS}[header.split()[0]]
    joint = rng.choice((" / ", "; ", " | ", "\n"))
    kind = rng.randrange(4)
    measure = header.split()[1]
    question = (f"highest {measure}?", f"lowest {measure}?", f"{measure} of {{x}}?", f"{measure}s added?")[kind]

    def example(r: random.Random) -> TextPair:
        rows = dict(zip(r.sample(people, 3), r.sample(values, 3), strict=True))
        x = r.choice(list(rows))
        answers: tuple[Callable[[], str], ...] = (
            lambda: max(rows, key=rows.__getitem__), lambda: min(rows, key=rows.__getitem__), lambda: str(rows[x]),
            lambda: str(sum(rows.values())),
        )  # fmt: skip
        shown = joint.join([header, *(f"{a} {b}" for a, b in rows.items())])
        return f"{shown}{joint}{question.format(x=x)}", answers[kind]()

    return example


def _adjective_places(rng: random.Random) -> Example:
    order = rng.sample(("size", "colour", "stuff"), 3)
    words = {"size": ("big", "small", "tall", "tiny", "huge", "long"), "colour": KINDS["colour"],
             "stuff": ("wooden", "glass", "paper", "steel", "stone", "woollen")}  # fmt: skip
    label, asks_truth = truth_labels(rng), rng.random() < 0.5

    def example(r: random.Random) -> TextPair:
        noun, chosen = r.choice(NOUNS), {k: r.choice(words[k]) for k in order}
        right = " ".join([*(chosen[k] for k in order), noun])
        if not asks_truth:
            return ", ".join([*r.sample(list(chosen.values()), 3), noun]), right
        good = r.random() < 0.5
        mixed = r.sample(order, 3)
        return right if good else " ".join([*(chosen[k] for k in mixed), noun]), label(good or mixed == order)

    return example


_PRAISE = ("brave", "bright", "calm", "clean", "clever", "fair", "fresh", "happy", "kind", "lucky", "neat", "nice",
"sweet",
           "warm", "proud")  # fmt: skip


_BLAME = ("broken", "cold", "dark", "empty", "late", "lazy", "poor", "rough", "sad", "slow", "sour", "tired", "weak",
"wet",
          "pale")  # fmt: skip


def _opposite_feeling(rng: random.Random) -> Example:
    good, bad = rng.choice((("good", "bad"), ("+", "-"), ("up", "down"), ("positive", "negative"), ("like", "dislike")))
    wording = rng.choice(("The {n} was {a}.", "{a} {n}", "A very {a} {n}!", "{n}: {a}", "I found the {n} {a}."))
    negates = rng.random() < 0.3

    def example(r: random.Random) -> TextPair:
        positive = r.random() < 0.5
        negated = negates and r.random() < 0.5
        word = r.choice(_PRAISE if positive else _BLAME)
        said = wording.format(n=r.choice(NOUNS), a="not " + word if negated else word)
        return said, good if positive != negated else bad

    return example


def _word_kind(rng: random.Random) -> Example:
    pools = {"thing": NOUNS, "name": FIRST_NAMES, "place": CITIES, "quality": ADJECTIVES, "number": NUMBER_WORDS[1:]}
    kinds = rng.sample(tuple(pools), 2)
    labels = rng.choice((kinds, ["A", "B"], ["1", "2"], ["left", "right"], ["x", "y"]))

    def example(r: random.Random) -> TextPair:
        at = r.randrange(2)
        return r.choice(pools[kinds[at]]).lower(), labels[at]

    return example


THING_FAMILIES = tuple(
    text_family(name, draw_rule)
    for name, draw_rule in (
        ("world_count", _count_things), ("world_odd_one_out", _odd_one_out), ("world_kind_of", _kind_of),
        ("world_pick_member", _pick_member), ("world_shelf", _shelf), ("world_table", _small_table),
        ("world_adjective_order", _adjective_places), ("world_feeling", _opposite_feeling),
        ("world_word_kind", _word_kind),
    )
)  # fmt: skip
