"""Text families that compute a value: arithmetic, sequences, analogies, sorting, recall, running totals."""

import random
from collections.abc import Callable

from icl_engine.families.text_rules import Example, TextPair, text_family
from icl_engine.families.wordings import question_style
from icl_engine.families.words import (
    CITIES,
    FIRST_NAMES,
    LAST_NAMES,
    LETTERS,
    NOUNS,
    NUMBER_WORDS,
    any_word,
    invented_word,
)


def _calculation(r: random.Random, n_operators: int, signs: tuple[str, str, str]) -> tuple[str, int]:
    """Return a sum, difference or product in parentheses wherever it has parts of its own, and its value."""
    if n_operators == 0:
        n = r.choice((r.randint(0, 9), r.randint(-9, 9)))
        return str(n), n
    n_left = r.randrange(n_operators)
    (left, a), (right, b) = (_calculation(r, n, signs) for n in (n_left, n_operators - 1 - n_left))
    at = r.choice((0, 0, 1, 1, 2))
    left, right = (f"({part})" if n else part for part, n in ((left, n_left), (right, n_operators - 1 - n_left)))
    return f"{left} {signs[at]} {right}", (a + b, a - b, a * b)[at]


def _arithmetic(rng: random.Random) -> Example:
    signs = rng.choice((("+", "-", "*"), ("+", "-", "x"), ("plus", "minus", "times"), ("add", "less", "by")))
    wording = rng.choice(("{}", "{} =", "{} = ?", "what is {}", "compute {}", "{} makes", "Q: {}"))
    if rng.random() < 0.4:
        most = rng.choice((2, 2, 3, 4, 5, 6))
        return lambda r: _worded(wording, *_calculation(r, r.randint(1, most), signs))
    shape = rng.choice(tuple(_SHAPES))
    value = _SHAPES[shape]
    told = shape.replace("+", "{p}").replace("-", "{m}").replace("*", "{t}")

    def example(r: random.Random) -> TextPair:
        a, b, c, d = r.randint(1, 9), r.randint(1, 9), r.randint(1, 9), r.randint(10, 60)
        text = told.format(a=a, b=b, c=c, d=d, p=signs[0], m=signs[1], t=signs[2])
        return wording.format(text), str(value(a, b, c, d))

    return example


def _worded(wording: str, text: str, value: int) -> TextPair:
    return wording.format(text), str(value)


_SHAPES: dict[str, Callable[[int, int, int, int], int]] = {
    "{a} + {b}": lambda a, b, c, d: a + b,
    "{a} + {b} - {c}": lambda a, b, c, d: a + b - c,
    "({a} + {b}) * {c}": lambda a, b, c, d: (a + b) * c,
    "{a} * {b} + {c}": lambda a, b, c, d: a * b + c,
    "{d} - {a}": lambda a, b, c, d: d - a,
    "{a} * ({b} + {c})": lambda a, b, c, d: a * (b + c),
    "(({a} - {b}) * ({c} + {a}))": lambda a, b, c, d: (a - b) * (c + a),
    "{d} - {a} * {b}": lambda a, b, c, d: d - a * b,
}


def _hidden_operation(rng: random.Random) -> Example:
    sign = rng.choice("@#&~%$^:")
    operations: tuple[Callable[[int, int], int], ...] = (
        lambda a, b: a + b, lambda a, b: a * b, lambda a, b: abs(a - b), max, min, lambda a, b: 2 * a + b,
        lambda a, b: 10 * a + b, lambda a, b: a + b + 1, lambda a, b: a * b - a, lambda a, b: (a + b) % 10,
    )  # fmt: skip
    operation, gap = rng.choice(operations), rng.choice((" ", ""))

    def example(r: random.Random) -> TextPair:
        a, b = r.randint(1, 9), r.randint(1, 9)
        return f"{a}{gap}{sign}{gap}{b}", str(operation(a, b))

    return example


def _next_in_sequence(rng: random.Random) -> Example:
    kind, step = rng.randrange(6), rng.choice((1, 2, 3, 4, 5, 10))
    joint, end = rng.choice(
        ((" ", ""), (", ", ", ?"), (" ", " _"), (", ", ""), ("-", "-"), (" ", " next:"), (", ", " ..."))
    )

    def terms(r: random.Random) -> list[str]:
        start, n = r.randint(1, 15), r.randint(3, 5)
        if kind == 0:
            return [LETTERS[(start - 1 + i * min(step, 3)) % 26] for i in range(n + 1)]
        if kind == 1:
            return [str(start * 2**i) for i in range(n + 1)]
        if kind == 2:
            return [str(start + 70 - i * step) for i in range(n + 1)]
        if kind == 3:
            grown = [start, start + step]
            for i in range(n - 1):
                grown.append(grown[i] + grown[i + 1])
            return [str(x) for x in grown]
        if kind == 4:
            cycle = r.sample(NOUNS, 2) if start % 2 else r.sample("abcxyz", 3)
            return [cycle[i % len(cycle)] for i in range(len(cycle) + n)]
        return [str(start + i * step) for i in range(n + 1)]

    def example(r: random.Random) -> TextPair:
        shown = terms(r)
        return joint.join(shown[:-1]) + end, shown[-1]

    return example


def _letter_analogy(rng: random.Random) -> Example:
    changes: tuple[Callable[[int, int], tuple[int, ...]], ...] = (
        lambda i, n: (*range(i, i + n - 1), i + n), lambda i, n: tuple(range(i + n - 1, i - 1, -1)),
        lambda i, n: (i, i, *range(i + 1, i + n)), lambda i, n: tuple(range(i + 1, i + n + 1)),
        lambda i, n: (*range(i, i + n), i), lambda i, n: tuple(range(i, i + 2 * n, 2)), lambda i,
        n: (i - 1, *range(i + 1, i + n)),
    )  # fmt: skip
    change, gap = rng.choice(changes), rng.choice(("", "", " "))
    upper = rng.random() < 0.3

    def example(r: random.Random) -> TextPair:
        n = r.randint(3, 4)
        i = r.randint(1, 17)
        given, wanted = gap.join(LETTERS[i : i + n]), gap.join(LETTERS[j] for j in change(i, n))
        return (given.upper(), wanted.upper()) if upper else (given, wanted)

    return example


_SORT_WORDINGS = (
    "{}", "{}", "sort: {}", "put in order {}", "{} -- arranged from a to z", "alphabetise {}", "order these: {}",
    "line up {} by letter", "dictionary order of {}", "Which of these stands first in a lexicon, which next? {}",
    "A printer sets the index of a book. Its entries are still mixed: {}", "Cards in a drawer: {}. Tidy them by name:",
    "The names on the doors are {} and shall follow the alphabet.", "by first letter, then by the ones after it\n{}",
)  # fmt: skip
_BACKWARD_WORDINGS = (
    "{}", "from z to a: {}", "{} -- whatever a lexicon has last comes first", "opposite to the alphabet: {}",
)  # fmt: skip
_NAMES = FIRST_NAMES + LAST_NAMES + CITIES


def _draw_sorted_source(rng: random.Random) -> Callable[[random.Random], str]:
    """Draw what is sorted: words, invented words, names, or words of which many begin alike."""
    alike = "".join(rng.sample(LETTERS, 3))
    sources: tuple[Callable[[random.Random], str], ...] = (
        any_word, any_word, any_word, lambda r: invented_word(r, r.randint(1, 4)), lambda r: r.choice(_NAMES).lower(),
        lambda r: r.choice(alike) + any_word(r)[1:], lambda r: r.choice(_NAMES),
        lambda r: any_word(r) + r.choice(("", "s", "ing", "er", "ly", "ness")),
    )  # fmt: skip
    return rng.choice(sources)


def _sort_named(rng: random.Random) -> Example:
    backwards, draw = rng.random() < 0.15, _draw_sorted_source(rng)
    wording = rng.choice(_BACKWARD_WORDINGS if backwards else _SORT_WORDINGS)
    joint = rng.choice((" ", " ", ", ", ", ", "; ", ","))
    wanted = joint if rng.random() < 0.6 else rng.choice((" ", ", ", " < ", "\n"))
    most = rng.choice((3, 4, 5, 6, 7, 8, 10, 12))

    def example(r: random.Random) -> TextPair:
        words = list(dict.fromkeys(draw(r) for _ in range(r.randint(max(2, most // 2), most))))
        return wording.format(joint.join(words)), wanted.join(sorted(words, reverse=backwards))

    return example


def _recall(rng: random.Random) -> Example:
    arrow = rng.choice(("=", ":", " is ", "->", " has "))
    wording = rng.choice(
        ("{facts}; {key}?", "{facts} | {key}", "{key} in {facts}", "Given {facts}. {key}:", "{facts}, so {key}")
    )
    digits = rng.random() < 0.5
    ask = question_style(rng, share_open=0.8)

    def example(r: random.Random) -> TextPair:
        n = r.randint(3, 4)
        keys = r.sample(LETTERS, n) if digits else [invented_word(r, 1) + x for x in r.sample("xyzw", n)]
        values = [str(x) for x in r.sample(range(10, 99), n)] if digits else r.sample(NOUNS, n)
        at = r.randrange(n)
        facts = ", ".join(k + arrow + v for k, v in zip(keys, values, strict=True))
        return ask(r, wording.format(facts=facts, key=keys[at]), values, values[at])

    return example


def _follow_arrows(rng: random.Random) -> Example:
    arrow, n_hops = rng.choice((">", "->", "=>", " to ")), rng.choice((1, 2, 2, 3))
    wording = rng.choice(("{map}; from {x}", "{map}. start {x}", "{x} | {map}", "{map} : {x} goes to", "At {x}: {map}"))

    def example(r: random.Random) -> TextPair:
        nodes = r.sample(LETTERS, r.randint(4, 5))
        edges = {a: nodes[(i + 1) % len(nodes)] for i, a in enumerate(nodes)}
        x = at = r.choice(nodes)
        for _ in range(n_hops):
            at = edges[at]
        shown = r.sample([a + arrow + b for a, b in edges.items()], len(edges))
        return wording.format(map=" ".join(shown) if len(arrow) < 3 else ", ".join(shown), x=x), at

    return example


_ACCOUNTS = (  # how it begins, a gain, a loss, the question
    ("x = {n}", "x += {n}", "x -= {n}", "x"), ("start {n}", "add {n}", "take {n}", "total"),
    ("put {n}", "more {n}", "fewer {n}", "left"), ("{n} in the jar", "{n} go in", "{n} come out", "how many"),
    ("bus with {n}", "{n} board", "{n} leave", "on the bus"),
    ("The baker sets out with {n} loaves", "at the mill somebody hands over {n}", "a family at the well buys {n}",
     "How many loaves are still in the cart?"),
    ("At dawn {n} cows stand on the meadow", "{n} come through the gap in the hedge", "a farmer leads {n} to the barn",
     "Cows on the meadow at dusk:"),
    ("The lift starts with {n} people", "on the next floor {n} squeeze in", "one floor on {n} of them get off",
     "So the lift now carries"),
    ("{n} books lie on the desk", "the post brings {n}", "{n} go back to the shelf", "Number of books on the desk?"),
)  # fmt: skip


def _running_program(rng: random.Random) -> Example:
    begins, gain, loss, ask = rng.choice(_ACCOUNTS)
    joint, words = rng.choice(("; ", ", ", ". ", " / ")), rng.random() < 0.25
    most_steps, most_each = rng.choice((2, 3, 3, 4, 5, 6, 8)), rng.choice((4, 4, 9, 20))

    def example(r: random.Random) -> TextPair:
        value = r.randint(5, 15)
        said = [begins.format(n=NUMBER_WORDS[value] if words else value)]
        for _ in range(r.randint(1, most_steps)):
            n = r.randint(1, most_each)
            up = value < n or r.random() < 0.5
            value += n if up else -n
            said.append((gain if up else loss).format(n=NUMBER_WORDS[n] if words else n))
        return joint.join([*said, ask]), str(value)

    return example


SEQUENCE_FAMILIES = tuple(
    text_family(name, draw_rule)
    for name, draw_rule in (
        ("arithmetic", _arithmetic), ("hidden_operation", _hidden_operation), ("sequence_next", _next_in_sequence),
        ("letter_analogy", _letter_analogy), ("word_sort", _sort_named), ("key_recall", _recall),
        ("follow_arrows", _follow_arrows), ("running_total", _running_program),
    )
)  # fmt: skip
