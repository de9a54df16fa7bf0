"""Text families that compute a value: arithmetic, sequences, analogies, sorting, recall, running totals."""

import random
from collections.abc import Callable

from icl_engine.families.text_rules import Example, TextPair, text_family
from icl_engine.families.wordings import question_style
from icl_engine.families.words import LETTERS, NOUNS, NUMBER_WORDS, any_word, invented_word


def _arithmetic(rng: random.Random) -> Example:
    plus, minus, times = rng.choice(
        (("+", "-", "*"), ("+", "-", "x"), ("plus", "minus", "times"), ("add", "less", "by"))
    )
    wording = rng.choice(("{}", "{} =", "{} = ?", "what is {}", "compute {}", "{} makes", "Q: {}"))
    shape = rng.choice(("{a} {p} {b}", "{a} {p} {b} {m} {c}", "({a} {p} {b}) {t} {c}", "{a} {t} {b} {p} {c}",
    "{d} {m} {a}",
                        "{a} {t} ({b} {p} {c})", "(({a} {m} {b}) {t} ({c} {p} {a}))",
                        "{d} {m} {a} {t} {b}"))  # fmt: skip
    value = _SHAPES[shape.replace("{p}", "+").replace("{m}", "-").replace("{t}", "*")]

    def example(r: random.Random) -> TextPair:
        a, b, c, d = r.randint(1, 9), r.randint(1, 9), r.randint(1, 9), r.randint(10, 60)
        return wording.format(shape.format(a=a, b=b, c=c, d=d, p=plus, m=minus, t=times)), str(value(a, b, c, d))

    return example


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


def _sort_named(rng: random.Random) -> Example:
    wording = rng.choice(("{}", "sort: {}", "put in order {}", "{} -- arranged from a to z", "alphabetise {}",
    "order these: {}",
                          "line up {} by letter", "dictionary order of {}"))  # fmt: skip
    joint, wanted = rng.choice((" ", ", ", "; ", ",")), rng.choice((" ", ", ", " < ", "\n"))
    backwards, n_words = rng.random() < 0.25, rng.randint(4, 9)

    def example(r: random.Random) -> TextPair:
        words = list(dict.fromkeys(any_word(r) for _ in range(r.randint(3, n_words))))
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


def _running_program(rng: random.Random) -> Example:
    set_, add, take, ask = rng.choice((
        ("x = {n}", "x += {n}", "x -= {n}", "x"), ("start {n}", "add {n}", "take {n}", "total"), ("put {n}", "more {n}",
        "fewer {n}", "left"), ("{n} in the jar", "{n} go in", "{n} come out", "how many"), ("bus with {n}", "{n} board",
        "{n} leave", "on the bus"),
    ))  # fmt: skip
    joint = rng.choice(("; ", ", ", ". ", " / "))
    words = rng.random() < 0.15

    def example(r: random.Random) -> TextPair:
        value = r.randint(5, 15)
        said = [set_.format(n=NUMBER_WORDS[value] if words else value)]
        for _ in range(r.randint(1, 3)):
            n = r.randint(1, 4)
            up = value < n or r.random() < 0.5
            value += n if up else -n
            said.append((add if up else take).format(n=NUMBER_WORDS[n] if words else n))
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
