"""Text families that edit one word: casing, affixes, padding, masks, letters moved, cut or replaced."""

import random
from collections.abc import Callable

from icl_engine.families.text_rules import Example, TextPair, text_family
from icl_engine.families.words import LETTERS, any_word, invented_word

Edit = Callable[[str], str]


_VOWELS = "aeiou"


def _over_word(edit: Edit, shortest: int = 3) -> Example:
    def example(r: random.Random) -> TextPair:
        word = any_word(r)
        while len(word) < shortest:
            word += invented_word(r, 1)
        return word, edit(word)

    return example


def _word_case(rng: random.Random) -> Example:
    edits: tuple[Edit, ...] = (
        str.upper, str.capitalize, lambda w: w[:-1] + w[-1].upper(), lambda w: w[0].upper() + w[1:-1] + w[-1].upper(),
        lambda w: "".join(c.upper() if i % 2 else c for i, c in enumerate(w)),
        lambda w: "".join(c if i % 2 else c.upper() for i, c in enumerate(w)),
        lambda w: "".join(c.upper() if c in _VOWELS else c for c in w),
        lambda w: "".join(c if c in _VOWELS else c.upper() for c in w),
    )  # fmt: skip
    return _over_word(rng.choice(edits))


def _pad_numbers(width: int) -> Example:
    def example(r: random.Random) -> TextPair:
        number = str(r.randint(1, 9999))
        return number, number.zfill(width)

    return example


def _pad(rng: random.Random) -> Example:
    width, fill = rng.randint(7, 10), rng.choice("*.-_0#=x")
    if rng.random() < 0.35:
        return _pad_numbers(rng.randint(4, 7))
    edits: tuple[Edit, ...] = (
        lambda w: w.ljust(width, fill), lambda w: w.rjust(width, fill), lambda w: (fill * 2 + w)[:width],
        lambda w: fill * len(w) + w, lambda w: fill + fill.join(w) + fill, lambda w: fill.join(w),
    )  # fmt: skip
    return _over_word(rng.choice(edits))


def _affix(rng: random.Random) -> Example:
    piece = (
        invented_word(rng, 1)
        if rng.random() < 0.6
        else rng.choice(("re", "un", "s", "er", "ing", "ly", "-x", "42", "!"))
    )
    edits: tuple[Edit, ...] = (
        lambda w: piece + w, lambda w: w + piece, lambda w: piece + w + piece,
        lambda w: w[: len(w) // 2] + piece + w[len(w) // 2 :],
        lambda w: w[0] + piece + w[1:], lambda w: w[:-1] + piece, lambda w: piece + w[1:], lambda w: f"{w} {piece}{w}",
    )  # fmt: skip
    forward = _over_word(rng.choice(edits[:6] if rng.random() < 0.7 else edits[6:]))
    undoes = rng.random() < 0.25
    in_front = rng.random() < 0.5
    if not undoes:
        return forward

    def example(r: random.Random) -> TextPair:
        word = any_word(r)
        return piece + word if in_front else word + piece, word

    return example


def _cut_letters(rng: random.Random) -> Example:
    edits: tuple[Edit, ...] = (
        lambda w: w[1:], lambda w: w[:-1], lambda w: w[1:-1], lambda w: w[:3], lambda w: w[-3:],
        lambda w: w[:2] + w[-2:],
        lambda w: w[::2], lambda w: w[1::2], lambda w: w[0] + w[-1], lambda w: w[1], lambda w: w[-2],
        lambda w: w[: len(w) // 2],
        lambda w: w[len(w) // 2 :], lambda w: w[2:],
    )  # fmt: skip
    return _over_word(rng.choice(edits), shortest=4)


def _move_letters(rng: random.Random) -> Example:
    edits: tuple[Edit, ...] = (
        lambda w: w[::-1], lambda w: w[1:] + w[0], lambda w: w[-1] + w[:-1], lambda w: w[-1] + w[1:-1] + w[0],
        lambda w: "".join(sorted(w)), lambda w: w + w[::-1], lambda w: w[1] + w[0] + w[2:], lambda w: w[::2] + w[1::2],
        lambda w: w[1:] + w[0] + "ay", lambda w: w[len(w) // 2 :] + w[: len(w) // 2], lambda w: w[0] + w[:0:-1],
    )  # fmt: skip
    return _over_word(rng.choice(edits))


def _repeat_letters(rng: random.Random) -> Example:
    joint = rng.choice(("", "-", " ", "/"))
    edits: tuple[Edit, ...] = (
        lambda w: w + joint + w, lambda w: "".join(c * 2 for c in w), lambda w: w + w[-1] * 2,
        lambda w: w[0] + joint + w,
        lambda w: w[0] * 3 + w[1:], lambda w: "".join(c * 2 if c in _VOWELS else c for c in w),
        lambda w: w[:2] + joint + w,
        lambda w: joint.join((w, w, w)), lambda w: w + joint + w[-2:],
        lambda w: "".join(c * (i + 1) for i, c in enumerate(w[:4])),
    )  # fmt: skip
    return _over_word(rng.choice(edits))


def _vowels(rng: random.Random) -> Example:
    mark = rng.choice("*_.#aou")
    edits: tuple[Edit, ...] = (
        lambda w: "".join(c for c in w if c not in _VOWELS), lambda w: "".join(c for c in w if c in _VOWELS) or "-",
        lambda w: "".join(mark if c in _VOWELS else c for c in w), lambda w: str(sum(c in _VOWELS for c in w)),
        lambda w: "".join(c if c in _VOWELS else mark for c in w),
        lambda w: "".join("V" if c in _VOWELS else "C" for c in w),
        lambda w: w[0] + "".join(c for c in w[1:] if c not in _VOWELS),
    )  # fmt: skip
    return _over_word(rng.choice(edits))


def _cipher(rng: random.Random) -> Example:
    shift = rng.choice((1, 1, -1, 2, 3, 13))
    shifted = str.maketrans(LETTERS, LETTERS[shift:] + LETTERS[:shift])
    mirrored = str.maketrans(LETTERS, LETTERS[::-1])
    edits: tuple[Edit, ...] = (
        lambda w: w.translate(shifted), lambda w: w.translate(shifted), lambda w: w.translate(mirrored),
        lambda w: " ".join(str(LETTERS.index(c) + 1) for c in w), lambda w: w.translate(shifted)[::-1],
        lambda w: "-".join(w), lambda w: w[0].translate(shifted) + w[1:], lambda w: w[:-1] + w[-1].translate(shifted),
    )  # fmt: skip
    return _over_word(rng.choice(edits))


def _replace_character(rng: random.Random) -> Example:
    alphabet = rng.sample(LETTERS, 4)
    old, new = alphabet[0], rng.choice((rng.choice(LETTERS), rng.choice("*#_@"), rng.choice(LETTERS).upper(), ""))
    first_only = rng.random() < 0.2

    def example(r: random.Random) -> TextPair:
        text = "".join(r.choices(alphabet, k=r.randint(3, 7)))
        at = r.randrange(len(text))
        text = text[:at] + old + text[at:]
        return text, text.replace(old, new, 1 if first_only else -1)

    return example


def _mask(rng: random.Random) -> Example:
    mark = rng.choice("*x#X.-")
    edits: tuple[Edit, ...] = (
        lambda t: mark * (len(t) - 4) + t[-4:], lambda t: t[:2] + mark * (len(t) - 2),
        lambda t: t[0] + mark * (len(t) - 2) + t[-1],
        lambda t: mark * len(t), lambda t: t[:3] + mark * 3, lambda t: mark * 2 + t[2:], lambda t: t[:-2] + mark * 2,
    )  # fmt: skip
    edit, digits = rng.choice(edits), rng.random() < 0.5

    def example(r: random.Random) -> TextPair:
        length = r.randint(6, 9)
        text = "".join(r.choices("0123456789", k=length)) if digits else invented_word(r, 3)
        return text, edit(text)

    return example


def _digits_and_letters(rng: random.Random) -> Example:
    edits: tuple[Edit, ...] = (
        lambda t: "".join(c for c in t if c.isdigit()), lambda t: "".join(c for c in t if c.isalpha()),
        lambda t: "".join("9" if c.isdigit() else "a" for c in t), lambda t: str(sum(int(c) for c in t if c.isdigit())),
        lambda t: str(sum(c.isdigit() for c in t)), lambda t: "".join(sorted(t, key=str.isalpha)), lambda t: t.upper(),
        lambda t: "".join(c if c.isdigit() else "_" for c in t),
    )  # fmt: skip
    edit = rng.choice(edits)

    def example(r: random.Random) -> TextPair:
        text = "".join(
            r.choice(LETTERS) if r.random() < 0.5 else r.choice("0123456789") for _ in range(r.randint(4, 7))
        )
        text += r.choice(LETTERS) + r.choice("123456789")
        return text, edit(text)

    return example


def _fill_template(rng: random.Random) -> Example:
    before, between, after = any_word(rng), any_word(rng), any_word(rng)
    layout = rng.choice((
        f"{before} {{0}}", f"{{0}} {after}", f"{before} {{0}} {after}", "{0}={0}", f"{{0}} {between} {{0}}", "{0}({0})",
        f"the {{0}} {between}", "a {0}, a {0}", f"{before}.{{0}}()", f"{{0}}: {after}!", f"/{before}/{{0}}", "<{0}/>",
    ))  # fmt: skip
    return _over_word(layout.format, shortest=2)


STRING_FAMILIES = tuple(
    text_family(name, draw_rule)
    for name, draw_rule in (
        ("string_word_case", _word_case), ("string_pad", _pad), ("string_affix", _affix),
        ("string_cut_letters", _cut_letters), ("string_move_letters", _move_letters),
        ("string_repeat_letters", _repeat_letters), ("string_vowels", _vowels), ("string_cipher", _cipher),
        ("string_replace_character", _replace_character), ("string_mask", _mask),
        ("string_digits_and_letters", _digits_and_letters), ("string_fill_template", _fill_template),
    )
)  # fmt: skip
