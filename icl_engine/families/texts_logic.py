"""Text families of brackets and of judgements that hold or do not: logic, comparison, membership, parity."""

import random
from collections.abc import Callable
from itertools import pairwise

from icl_engine.families.text_rules import Example, TextPair, text_family
from icl_engine.families.texts_expressions import logic_value
from icl_engine.families.wordings import truth_labels
from icl_engine.families.words import LETTERS, any_word, invented_word

BRACKETS = ("()", "[]", "{}", "<>", "()", "[]", "{}", "<>", "\\/", "bd", "pq", "AZ", "+-", "12")


def _nesting(rng: random.Random, kinds: list[str], n_opened: int, n_closed: int) -> tuple[str, str]:
    """Return a sequence that opens `n_opened` brackets and closes `n_closed` of them, and the rest that closes it."""
    text, waiting = "", ""
    while n_opened or n_closed:
        if n_opened and (not waiting or not n_closed or rng.random() < 0.55):
            kind = rng.choice(kinds)
            text, waiting, n_opened = text + kind[0], kind[1] + waiting, n_opened - 1
        else:
            text, waiting, n_closed = text + waiting[0], waiting[1:], n_closed - 1
    return text, waiting


def _bracket_kinds(rng: random.Random) -> list[str]:
    usual = rng.random() < 0.8
    return rng.sample(BRACKETS[:4], rng.choice((2, 3, 4, 4))) if usual else rng.sample(BRACKETS[8:], 2)


_CLOSE_WORDINGS = (
    "{}", "{}", "{}", "close: {}", "{} ...", "finish {}", "What closes {} ?", "still open in {}:", "{} _",
    "The printer stopped before the end. Add what is missing: {}", "Here every opened sign waits for its twin: {}",
    "A gate that was opened last must be shut first. Shut all that stand open: {}", "Write only the missing end of {}",
    "Which signs, and in which order, would bring this line to a proper end?\n{}", "Start: {} Rest:",
)  # fmt: skip


def _close_brackets(rng: random.Random) -> Example:
    kinds, gap, wording = _bracket_kinds(rng), rng.choice((" ", "")), rng.choice(_CLOSE_WORDINGS)
    longest = rng.choice((3, 4, 5, 6, 6, 8, 10, 12, 14, 16))
    nearly_done = rng.random() < 0.5  # most of what was opened is closed again, as in long texts

    def example(r: random.Random) -> TextPair:
        opened = r.randint(max(1, longest // 3), longest)
        closed = r.randint(max(0, opened - 6), opened - 1) if nearly_done else r.randint(0, opened - 1)
        text, rest = _nesting(r, kinds, opened, closed)
        return wording.format(gap.join(text)), gap.join(rest)

    return example


def _balanced_brackets(rng: random.Random) -> Example:
    kinds, label = _bracket_kinds(rng), truth_labels(rng)
    wording = rng.choice(("{}", "balanced? {}", "{} : well nested?", "check {}", "Does {} close properly?"))

    def example(r: random.Random) -> TextPair:
        opened = r.randint(2, 4)
        text, _ = _nesting(r, kinds, opened, opened)
        good = r.random() < 0.5
        if not good:
            a, b = r.sample(range(len(text)), 2)
            letters = list(text)
            letters[a], letters[b] = letters[b], letters[a]
            text = "".join(letters)
        return wording.format(text), label(_is_balanced(text, kinds))

    return example


def _is_balanced(text: str, kinds: list[str]) -> bool:
    closing, waiting = {kind[0]: kind[1] for kind in kinds}, ""
    for c in text:
        if c in closing:
            waiting = closing[c] + waiting
        elif not waiting.startswith(c):
            return False
        else:
            waiting = waiting[1:]
    return not waiting


def _bracket_depth(rng: random.Random) -> Example:
    kind = rng.choice(BRACKETS[:4])
    deepest = rng.random() < 0.6
    wording = rng.choice(("{}", "depth {}", "how deep: {}", "{} =")) if deepest else rng.choice(("{}", "pairs in {}"))

    def example(r: random.Random) -> TextPair:
        n = r.randint(1, 6)
        text, _ = _nesting(r, [kind], n, n)
        depths = [text[:i].count(kind[0]) - text[:i].count(kind[1]) for i in range(len(text) + 1)]
        return wording.format(text), str(max(depths) if deepest else n)

    return example


def _comparison(rng: random.Random) -> Example:
    label, span = truth_labels(rng), rng.choice((9, 20, 99, 999))
    relations: tuple[tuple[str, Callable[[int, int], bool]], ...] = (
        ("{a} > {b}", lambda a, b: a > b), ("{a} < {b}", lambda a, b: a < b),
        ("is {a} more than {b}?", lambda a, b: a > b),
        ("{a} below {b}", lambda a, b: a < b), ("{a} + {b} is even", lambda a, b: (a + b) % 2 == 0),
        ("{a} has the last digit of {b}", lambda a, b: a % 10 == b % 10), ("{a} , {b}", lambda a, b: a > b),
        ("{a} ? {b}", lambda a, b: abs(a - b) <= 3), ("{a} and {b} in order?", lambda a, b: a < b),
    )  # fmt: skip
    wording, holds = rng.choice(relations)

    def example(r: random.Random) -> TextPair:
        a, b = r.randint(0, span), r.randint(0, span)
        if r.random() < 0.4:
            b = a + r.randint(-3, 3) if a > 2 else b
        return wording.format(a=a, b=b), label(holds(a, b))

    return example


def _membership(rng: random.Random) -> Example:
    label, letters = truth_labels(rng), rng.random() < 0.4
    wording = rng.choice(
        ("{x} in {s}?", "{s} has {x}?", "{s} | {x}", "does {s} contain {x}", "{x} : {s}", "look for {x} in {s}")
    )

    def example(r: random.Random) -> TextPair:
        if letters:
            bag = r.sample(LETTERS[:12], r.randint(3, 6))
            shown, other = "".join(bag), r.choice(LETTERS[:12])
        else:
            bag = list(dict.fromkeys(any_word(r) for _ in range(r.randint(3, 4))))
            shown, other = ", ".join(bag), any_word(r)
        x = r.choice(bag) if r.random() < 0.5 else other
        return wording.format(x=x, s=shown), label(x in bag)

    return example


def _parity(rng: random.Random) -> Example:
    label = truth_labels(rng) if rng.random() < 0.6 else (lambda truth: "even" if truth else "odd")
    kind = rng.randrange(4)
    a, b = rng.sample("01abxyABXY#.", 2)

    def example(r: random.Random) -> TextPair:
        if kind == 0:
            n = r.randint(1, 999)
            return str(n), label(n % 2 == 0)
        if kind == 1:
            word = any_word(r)
            return word, label(len(word) % 2 == 0)
        text = "".join(r.choice((a, b)) for _ in range(r.randint(3, 8)))
        return text, label(text.count(a) % 2 == 0 if kind == 2 else text[0] == text[-1])

    return example


def _word_property(rng: random.Random) -> Example:
    label, letter, length = truth_labels(rng), rng.choice("aeiorstln"), rng.randint(4, 6)
    properties: tuple[Callable[[str], bool], ...] = (
        lambda w: letter in w, lambda w: w[0] in "aeiou", lambda w: w[-1] in "aeiou", lambda w: len(w) > length,
        lambda w: any(x == y for x, y in pairwise(w)), lambda w: len(set(w)) == len(w), lambda w: w[0] < "m",
        lambda w: w == w[::-1], lambda w: w.isupper(), lambda w: w.endswith(letter),
    )  # fmt: skip
    at = rng.randrange(len(properties))
    holds = properties[at]

    def draw(r: random.Random, truth: bool) -> str:
        word = any_word(r)
        if at == 4:
            return word[:2] + word[1:] if truth else word
        if at == 7:
            half = invented_word(r, 1)
            return half + half[::-1][1:] if truth else half + half[1:]
        if at == 8:
            return word.upper() if truth else r.choice((word, word.capitalize()))
        return word + letter if at == 9 and truth else word

    def example(r: random.Random) -> TextPair:
        truth = r.random() < 0.5
        word = draw(r, truth)
        for _ in range(6):
            if holds(word) == truth:
                break
            word = draw(r, truth)
        return word, label(holds(word))

    return example


def _same_or_different(rng: random.Random) -> Example:
    joint = rng.choice((" = ", " / ", " vs ", ", ", " | ", " ~ "))
    label = truth_labels(rng) if rng.random() < 0.5 else (lambda truth: "same" if truth else "different")
    relations: tuple[Callable[[str, random.Random], str], ...] = (
        lambda w, r: w, lambda w, r: w[::-1], lambda w, r: "".join(r.sample(w, len(w))), lambda w, r: w.upper(),
        lambda w, r: w[0] + any_word(r)[1:], lambda w, r: any_word(r)[:-1] + w[-1],
    )  # fmt: skip
    at = rng.randrange(len(relations))
    tests: tuple[Callable[[str, str], bool], ...] = (
        lambda a, b: a == b, lambda a, b: a == b[::-1], lambda a, b: sorted(a) == sorted(b), lambda a,
        b: a.upper() == b,
        lambda a, b: a[0] == b[0], lambda a, b: a[-1] == b[-1],
    )  # fmt: skip

    def example(r: random.Random) -> TextPair:
        word, n = any_word(r), r.random()
        other = relations[at](word, r)
        if n < 0.5:
            i = r.randrange(len(other))
            wrong = r.choice(LETTERS)
            other = any_word(r) if at > 3 else other[:i] + (wrong.upper() if at == 3 else wrong) + other[i + 1 :]
        return word + joint + other, label(tests[at](word, other))

    return example


LOGIC_FAMILIES = tuple(
    text_family(name, draw_rule)
    for name, draw_rule in (
        ("brackets_close", _close_brackets), ("brackets_balanced", _balanced_brackets),
        ("brackets_depth", _bracket_depth), ("logic_value", logic_value), ("number_comparison", _comparison),
        ("membership", _membership), ("parity", _parity), ("word_property", _word_property),
        ("same_or_different", _same_or_different),
    )
)  # fmt: skip
