"""Text families that edit short phrases: casing, delimiters, order and choice of words."""

import random
from collections.abc import Callable

from icl_engine.families.text_rules import Example, TextPair, text_family
from icl_engine.families.words import FIRST_NAMES, phrase

Edit = Callable[[str], str]
EditWords = Callable[[list[str]], str]


def _over_phrase(edit: EditWords, rng: random.Random, shortest: int = 2, longest: int = 4, joint: str = " ") -> Example:
    cased = rng.random() < 0.2 and joint == " "

    def example(r: random.Random) -> TextPair:
        words = phrase(r, r.randint(shortest, longest))
        if cased:
            words = [word.capitalize() for word in words]
        return joint.join(words), edit(words)

    return example


def _slug(rng: random.Random) -> Example:
    joint = rng.choice("-_.")
    end = rng.choice(("", "", ".html", "/", "-1"))
    marks = rng.choice(("!", "?", "...", "", ":"))

    def example(r: random.Random) -> TextPair:
        words = phrase(r, r.randint(2, 4))
        title = " ".join(word.capitalize() if r.random() < 0.6 else word for word in words)
        return title + marks, joint.join(words) + end

    return example


def _phrase_case(rng: random.Random) -> Example:
    edits: tuple[EditWords, ...] = (
        lambda ws: " ".join(ws).upper(), lambda ws: " ".join(w.capitalize() for w in ws),
        lambda ws: " ".join(ws).capitalize(),
        lambda ws: "".join(w.capitalize() for w in ws),
        lambda ws: ws[0].lower() + "".join(w.capitalize() for w in ws[1:]),
        lambda ws: "_".join(ws).lower(), lambda ws: "_".join(ws).upper(),
        lambda ws: " ".join([*ws[:-1], ws[-1].upper()]),
        lambda ws: " ".join([ws[0].upper(), *ws[1:]]), lambda ws: "-".join(w.capitalize() for w in ws),
    )  # fmt: skip
    return _over_phrase(rng.choice(edits), rng)


def _delimiters(rng: random.Random) -> Example:
    given, wanted = rng.sample((" ", "-", "_", ", ", ",", "; ", "/", ".", " | ", "+", ":", " > ", " & ", "\\", "~"), 2)
    return _over_phrase(wanted.join, rng, joint=given)


def _abbreviate(rng: random.Random) -> Example:
    edits: tuple[EditWords, ...] = (
        lambda ws: "".join(w[0] for w in ws).upper(), lambda ws: "".join(w[0] for w in ws),
        lambda ws: ".".join(w[0] for w in ws).upper() + ".", lambda ws: "".join(w[:2] for w in ws),
        lambda ws: "-".join(w[:3] for w in ws), lambda ws: "".join(w[-1] for w in ws),
        lambda ws: " ".join(w[0] + "." for w in ws),
        lambda ws: ws[0] + "".join(w[0] for w in ws[1:]), lambda ws: "".join(w[0].upper() + str(len(w)) for w in ws),
        lambda ws: ws[0][0].upper() + ". " + " ".join(ws[1:]),
    )  # fmt: skip
    return _over_phrase(rng.choice(edits), rng)


def _word_order(rng: random.Random) -> Example:
    edits: tuple[EditWords, ...] = (
        lambda ws: " ".join(ws[::-1]), lambda ws: " ".join([ws[-1], *ws[:-1]]), lambda ws: " ".join([*ws[1:], ws[0]]),
        lambda ws: f"{ws[-1]}, {' '.join(ws[:-1])}", lambda ws: " ".join([*ws[:-1], "and", ws[-1]]),
        lambda ws: " ".join([ws[-1], *ws[1:-1], ws[0]]), lambda ws: " ".join(w[::-1] for w in ws),
        lambda ws: " ".join(ws)[::-1], lambda ws: f"{ws[0]} ({' '.join(ws[1:])})",
    )  # fmt: skip
    return _over_phrase(rng.choice(edits), rng, shortest=3)


def _pick_from_phrase(rng: random.Random) -> Example:
    edits: tuple[EditWords, ...] = (
        lambda ws: ws[0], lambda ws: ws[-1], lambda ws: ws[1], lambda ws: ws[-2], lambda ws: f"{ws[0]} {ws[-1]}",
        lambda ws: " ".join(ws[1:]), lambda ws: " ".join(ws[:-1]), lambda ws: str(len(ws)), lambda ws: max(ws, key=len),
        lambda ws: str(len(" ".join(ws))), lambda ws: ws[0] + ws[-1], lambda ws: ws[0][0] + ws[-1][-1],
    )  # fmt: skip
    return _over_phrase(rng.choice(edits), rng, shortest=3, longest=5)


def _wrap(rng: random.Random) -> Example:
    left, right = rng.choice((
        ('"', '"'), ("'", "'"), ("<<", ">>"), ("[", "]"), ("(", ")"), ("{", "}"), ("**", "**"), ("<b>", "</b>"),
        ("_", "_"),
        ("<li>", "</li>"), ("print(", ")"), ("- ", ""), ("* ", ";"), ("~", "~"), ("$", "$"), ("=> ", ""), ("", "!"),
    ))  # fmt: skip
    kind, unwraps = rng.randrange(4), rng.random() < 0.3
    edits: tuple[EditWords, ...] = (
        lambda ws: left + " ".join(ws) + right, lambda ws: " ".join(left + w + right for w in ws),
        lambda ws: " ".join([*ws[:-1], left + ws[-1] + right]), lambda ws: " ".join([left + ws[0] + right, *ws[1:]]),
    )  # fmt: skip
    example = _over_phrase(edits[kind], rng, shortest=1 if kind == 0 else 2, longest=3)
    return (lambda r: example(r)[::-1]) if unwraps else example


def _tidy(rng: random.Random) -> Example:
    mark = rng.choice((" ", "*", "-", "_", "=", "."))
    edits: tuple[Edit, ...] = (
        lambda t: " ".join(t.replace(mark, " ").split()), lambda t: "-".join(t.replace(mark, " ").split()),
        lambda t: "".join(t.replace(mark, " ").split()), lambda t: str(len(t.replace(mark, " ").split())),
    )  # fmt: skip
    edit = rng.choice(edits)

    def example(r: random.Random) -> TextPair:
        gap = mark * r.randint(1, 3)
        text = gap.join(["", *phrase(r, r.randint(2, 3)), ""]).strip(" ")
        return text, edit(text)

    return example


def _between_marks(rng: random.Random) -> Example:
    left, right = rng.choice(("()", "[]", "{}", "<>", '""', "''", "**", "##", "//", "::"))
    keeps_rest = rng.random() < 0.3

    def example(r: random.Random) -> TextPair:
        words = phrase(r, r.randint(3, 4))
        at = r.randrange(len(words))
        marked = [left + w + right if i == at else w for i, w in enumerate(words)]
        rest = [w for i, w in enumerate(words) if i != at]
        return " ".join(marked), " ".join(rest) if keeps_rest else words[at]

    return example


def _sentence_edit(rng: random.Random) -> Example:
    verbs = ("likes", "sees", "calls", "helps", "meets", "follows", "thanks", "finds", "paints", "teaches")
    layout = rng.choice((
        "{b} {v} {a}.", "Does {a} {w} {b}?", "{a} does not {w} {b}.", "{a} will {w} {b}.", "{v}({a}, {b})",
        "{a} -> {b}",
        "Who {v} {b}? {a}.", "{a} {v} {b} and {b} {v} {a}.", "{a} {v} {b}!", "{a} or {b}?", "{v}", "{b}", "{a}, {b}",
        "Does {b} {w} {a}?", "I {w} {b}.", "{a} can {w} {b} too.", "{w}: {a} + {b}",
    ))  # fmt: skip

    def example(r: random.Random) -> TextPair:
        a, b = r.sample(FIRST_NAMES, 2)
        verb = r.choice(verbs)
        base = verb[:-2] if verb == "teaches" else verb[:-1]
        return f"{a} {verb} {b}.", layout.format(a=a, b=b, v=verb, w=base)

    return example


PHRASE_FAMILIES = tuple(
    text_family(name, draw_rule)
    for name, draw_rule in (
        ("string_slug", _slug), ("string_phrase_case", _phrase_case), ("string_delimiters", _delimiters),
        ("string_abbreviate", _abbreviate), ("string_word_order", _word_order),
        ("string_pick_word", _pick_from_phrase), ("string_wrap", _wrap), ("string_tidy", _tidy),
        ("string_between_marks", _between_marks), ("string_sentence_edit", _sentence_edit),
    )
)  # fmt: skip
