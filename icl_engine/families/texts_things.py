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
    LAST_NAMES,
    NOUNS,
    NUMBER_WORDS,
    THINGS,
    with_article,
)

_COUNT_LAYOUTS = (  # {s} is what is listed, {q} what is asked for: a kind in the plural
    "{s}. How many {q}?", "On the table: {s}. {q}:", "{s} / {q}", "Count the {q}: {s}", "I own {s}. {q} count?",
    "{q} in {s}", "{s} -> {q}",
    "We packed {s} into the van before noon. Tell me the number of {q} that we took.",
    "On the long wall of the hall somebody painted {s}. What number of {q} can a visitor find there?",
    "I see {s}. All {q} together make", "The museum bought {s}. In its book, under {q}, the number is",
    "A list was nailed to the door: {s}. Sum of {q}?", "For the play they need {s}. They need this many {q}:",
    "Grandmother left {s} in the attic, as the letter says. Find the total of the {q}.",
    "From the window one sees {s}. Number of {q} =", "Lost last week: {s}. So the number of lost {q} is",
)  # fmt: skip
_COUNTED_KINDS = tuple(kind for kind in KINDS if kind != "colour")  # colours are no things to count
_ODD_PLURALS = {"goose": "geese", "sheep": "sheep", "deer": "deer", "shelf": "shelves", "wolf": "wolves",
                "scarf": "scarves", "mouse": "mice", "pliers": "pliers", "furniture": "pieces of furniture",
                "clothing": "pieces of clothing", "tie": "ties"}  # fmt: skip


def _plural(word: str) -> str:
    if word in _ODD_PLURALS:
        return _ODD_PLURALS[word]
    if word.endswith(("s", "x", "ch", "sh", "mango", "potato")):
        return word + "es"
    return word[:-1] + "ies" if word.endswith("y") and word[-2] not in "aeiou" else word + "s"


def _draw_numbers(rng: random.Random) -> Callable[[str, int], str]:
    """Draw how a thing is listed with its number: with an article, a word or digits."""
    digits, article = rng.random() < 0.25, rng.random() < 0.8

    def listed(word: str, n: int) -> str:
        if n == 1 and article:
            return with_article(word)
        return f"{n if digits else NUMBER_WORDS[n]} {word if n == 1 else _plural(word)}"

    return listed


def _draw_stock(r: random.Random, kind: str, n_items: int, n_others: int) -> tuple[list[str], list[str]]:
    """Draw things of `kind` and things of `n_others` other kinds, `n_items` in all unless kinds run out."""
    own = r.sample(KINDS[kind], min(r.randint(1, n_items), len(KINDS[kind])))
    strangers = {x: None for k in r.sample(_COUNTED_KINDS, n_others) for x in KINDS[k] if x not in KINDS[kind]}
    return own, r.sample(list(strangers), min(n_items - len(own), len(strangers)))


def _count_things(rng: random.Random) -> Example:
    fixed, listed = rng.choice((None, rng.choice(_COUNTED_KINDS))), _draw_numbers(rng)
    layout, last = rng.choice(_COUNT_LAYOUTS), rng.choice((", ", ", ", " and ", ", and "))
    most_items, most_each = rng.choice((3, 4, 5, 6, 8, 10, 12, 14)), rng.choice((1, 1, 3, 3, 5, 12))
    in_words, share_all, n_others = rng.random() < 0.2, rng.choice((0.0, 0.0, 0.2, 1.0)), rng.choice((1, 1, 2, 3))

    def example(r: random.Random) -> TextPair:
        kind = fixed or r.choice(_COUNTED_KINDS)
        own, others = _draw_stock(r, kind, r.randint(2, most_items), n_others)
        numbers = {x: r.choice((1, r.randint(1, most_each))) for x in own + others}
        said = [listed(x, n) for x, n in r.sample(list(numbers.items()), len(numbers))]
        asks_all = r.random() < share_all
        total = sum(n for x, n in numbers.items() if asks_all or x in own)
        if in_words and total >= len(NUMBER_WORDS):
            return "", ""  # no word for it: drawn again
        shown = last.join(part for part in (", ".join(said[:-1]), said[-1]) if part)
        question = layout.format(s=shown, q="things" if asks_all else _plural(kind))
        return question, NUMBER_WORDS[total] if in_words else str(total)

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


_TABLES: tuple[tuple[str, str, tuple[str, ...], range], ...] = (
    ("name", "age", FIRST_NAMES, range(20, 80)), ("city", "km", CITIES, range(10, 990, 10)),
    ("item", "price", NOUNS, range(2, 60)), ("boat", "crew", ADJECTIVES, range(2, 30)),
    ("farm", "acres", LAST_NAMES, range(3, 200)),
)  # fmt: skip
_TABLE_ROWS = ("{a} {b}", "{a} {b}", "{a}: {b}", "{a} | {b}", "{a},{b}", "{key} {a}, {measure} {b}",
               "for {a} the {measure} is {b}", "{measure} of {a} = {b}")  # fmt: skip
_TABLE_QUESTIONS = (
    ("highest {m}?", "Where is the {m} greatest?", "most {m}:", "Which {k} leads in {m}?"),
    ("lowest {m}?", "Where is the {m} smallest?", "least {m}:", "Which {k} comes last in {m}?"),
    ("{m} of {x}?", "{x} ->", "What does it say of {x}?", "{m}, {x}:"),
    ("{m} added up?", "all {m} together", "Sum of the column {m}:", "total {m} ="),
    ("how many with {m} over {n}?", "rows above {n}:", "Number of rows whose {m} is more than {n}?", "count {m} > {n}"),
)  # fmt: skip


def _small_table(rng: random.Random) -> Example:
    key, measure, names, values = rng.choice(_TABLES)
    joint, row, kind = rng.choice((" / ", "; ", " | ", "\n", "\n")), rng.choice(_TABLE_ROWS), rng.randrange(5)
    question, most_rows = rng.choice(_TABLE_QUESTIONS[kind]), rng.choice((3, 3, 4, 5, 6, 8))
    header = [f"{key} {measure}"] if "key" not in row and rng.random() < 0.7 else []

    def example(r: random.Random) -> TextPair:
        n_rows = r.randint(3, most_rows)
        rows = dict(zip(r.sample(names, n_rows), r.sample(values, n_rows), strict=True))
        x, bound = r.choice(list(rows)), r.choice(values)
        answers: tuple[Callable[[], str], ...] = (
            lambda: max(rows, key=rows.__getitem__), lambda: min(rows, key=rows.__getitem__), lambda: str(rows[x]),
            lambda: str(sum(rows.values())), lambda: str(sum(n > bound for n in rows.values())),
        )  # fmt: skip
        shown = [row.format(a=a, b=b, key=key, measure=measure) for a, b in rows.items()]
        return joint.join([*header, *shown, question.format(m=measure, k=key, x=x, n=bound)]), answers[kind]()

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
