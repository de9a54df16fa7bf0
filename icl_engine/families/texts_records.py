"""Text families over records and codes: phone numbers, prices, units, fields, paths, versions, numerals."""

import random
from collections.abc import Callable

from icl_engine.families.text_rules import Example, TextPair, text_family
from icl_engine.families.words import (
    CITIES,
    FIRST_NAMES,
    NOUNS,
    NUMBER_WORDS,
    WEEKDAYS,
    any_word,
    invented_word,
    web_domain,
)


def _phone(rng: random.Random) -> Example:
    layouts = ("{a}{b}{c}", "({a}) {b}-{c}", "{a}-{b}-{c}", "{a}.{b}.{c}", "{a} {b} {c}", "+1 {a} {b} {c}",
               "+44{a}{b}{c}", "{a}/{b}{c}", "{b}-{c}", "{a}", "{c}", "***-***-{c}", "({a}) {b} {c}")  # fmt: skip
    given = rng.choice(layouts[:5])
    wanted = rng.choice([layout for layout in layouts if layout != given])

    def example(r: random.Random) -> TextPair:
        fields = {"a": r.randint(200, 989), "b": r.randint(100, 999), "c": r.randint(1000, 9999)}
        return given.format(**fields), wanted.format(**fields)

    return example


def _price(rng: random.Random) -> Example:
    sign = rng.choice(("$", "EUR ", "GBP ", "USD "))
    forms: tuple[Callable[[int, int], tuple[str, str]], ...] = (
        lambda a, b: (f"{a}.{b:02}", f"{sign}{a}.{b:02}"), lambda a, b: (f"{sign}{a}.{b:02}", f"{a},{b:02}"),
        lambda a, b: (f"{a}.{b:02}", f"{a * 100 + b}"), lambda a, b: (f"{a * 1000 + b}", f"{a * 1000 + b:,}"),
        lambda a, b: (f"{a * 1000 + b:,}", f"{a * 1000 + b}"), lambda a, b: (f"{sign}{a}.{b:02}", f"{a}"),
        lambda a, b: (f"{a}%", f"{a / 100:.2f}"), lambda a, b: (f"{a}.{b:02}", f"{a}.{b // 10}"),
        lambda a, b: (f"{sign}{a}.{b:02}", f"{a} {sign.strip()} {b:02}"), lambda a, b: (f"{a}", f"{a}.00"),
    )  # fmt: skip
    form = rng.choice(forms)
    return lambda r: form(r.randint(1, 999), r.randint(0, 99))


def _units(rng: random.Random) -> Example:
    big, small, factor = rng.choice((
        ("km", "m", 1000), ("m", "cm", 100), ("kg", "g", 1000), ("h", "min", 60), ("min", "s", 60), ("l", "ml", 1000),
        ("cm", "mm", 10), ("ft", "in", 12), ("weeks", "days", 7), ("dozen", "eggs", 12), ("days", "hours", 24),
    ))  # fmt: skip
    gap, upwards = rng.choice((" ", "")), rng.random() < 0.4

    def example(r: random.Random) -> TextPair:
        n = r.randint(2, 30)
        large, many = f"{n}{gap}{big}", f"{n * factor}{gap}{small}"
        return (many, large) if upwards else (large, many)

    return example


def _record_to_sentence(rng: random.Random) -> Example:
    joint = rng.choice((", ", "; ", " | ", ",", "/", " - "))
    sentence = rng.choice((
        "{a} is {b} and lives in {c}.", "{a} ({b}), {c}", "{c}: {a}, {b}", "{b}-year-old {a} from {c}", "{a} from {c}",
        "{a} turned {b}", "name={a} age={b}", "In {c} lives {a}.", "{a}/{c}/{b}", "<{a}> {c}", "{c} {b}", "{a} is {b}",
    ))  # fmt: skip

    def example(r: random.Random) -> TextPair:
        a, b, c = r.choice(FIRST_NAMES), r.randint(18, 90), r.choice(CITIES)
        return joint.join((a, str(b), c)), sentence.format(a=a, b=b, c=c)

    return example


def _field_of_record(rng: random.Random) -> Example:
    keys = rng.sample(("name", "age", "city", "code", "item", "size", "id", "day"), 3)
    wanted = rng.choice(keys)
    layout, joint = rng.choice((("{k}={v}", " "), ("{k}: {v}", ", "), ("{k}:{v}", ";"), ('"{k}": "{v}"', ", "),
                                ("{k}={v}", "&"), ("<{k}>{v}</{k}>", "")))  # fmt: skip
    shuffles = rng.random() < 0.5

    def value(key: str, r: random.Random) -> str:
        if key in ("age", "size", "id", "code"):
            return str(r.randint(10, 999))
        return r.choice({"name": FIRST_NAMES, "city": CITIES, "day": WEEKDAYS}.get(key, NOUNS))

    def example(r: random.Random) -> TextPair:
        order = r.sample(keys, 3) if shuffles else keys
        record = {key: value(key, r) for key in order}
        return joint.join(layout.format(k=k, v=v) for k, v in record.items()), record[wanted]

    return example


def _column(rng: random.Random) -> Example:
    joint, n, at = rng.choice((",", ";", "|", " / ", "\\", "::", "_")), rng.randint(3, 4), rng.randrange(3)
    mark = rng.choice(("{}", "{}", "[{}]", "'{}'", "{}!", "#{}"))

    def example(r: random.Random) -> TextPair:
        cells = [any_word(r) if r.random() < 0.6 else str(r.randint(1, 999)) for _ in range(n)]
        return joint.join(cells), mark.format(cells[at])

    return example


def _file_path(rng: random.Random) -> Example:
    wanted = rng.choice(("{name}", "{end}", "{name}.{end}", "{top}", "/{top}/{mid}", "{mid}", "{name}.bak",
    "{mid}/{name}",
                         "/{top}/{mid}/{name}.{new}", "/{mid}/{top}/{name}.{end}", "{top}.{mid}.{name}"))  # fmt: skip
    new = rng.choice(("tmp", "old", "zip", "html"))

    def example(r: random.Random) -> TextPair:
        top, mid, name = any_word(r), any_word(r), any_word(r)
        end = r.choice(("txt", "py", "csv", "pdf", "png", "md"))
        return f"/{top}/{mid}/{name}.{end}", wanted.format(top=top, mid=mid, name=name, end=end, new=new)

    return example


def _web_address(rng: random.Random) -> Example:
    wanted = rng.choice(("{site}", "{host}", "{page}", "{host}/{page}", "www.{host}", "{host} -> {page}",
    "[{page}]({host})",
                         "http://{site}/{page}", "{page} at {site}", "https://{host}/{page}/{n}", "{n}"))  # fmt: skip

    def example(r: random.Random) -> TextPair:
        host, page, n = web_domain(r), any_word(r), r.randint(1, 99)
        given = f"https://{host}/{page}?id={n}"
        return given, wanted.format(site=host.split(".")[0], host=host, page=page, n=n)

    return example


def _product_code(rng: random.Random) -> Example:
    given = rng.choice(("{a}-{n}", "{a}{n}", "{n}{a}", "{a}/{n}/{b}", "{b}-{a}-{n}", "{a}.{n}.{b}"))
    layouts = [
        "{a}",
        "{n}",
        "{n}-{a}",
        "{a}{n}",
        "{a_}-{n}",
        "{a} {n}",
        "{n}{a}",
        "{a}-{n:06}",
        "#{n}",
        "{a}-{next}",
        "[{a}]{n}",
    ]
    layouts += ["{b}", "{b}{n}", "{a}:{b}", "{n}/{b}/{a}", "{b}{a}"] if "{b}" in given else []
    wanted = rng.choice([layout for layout in layouts if layout != given])

    def example(r: random.Random) -> TextPair:
        a, b = invented_word(r, 1).upper(), r.choice("ABCDEFGHKLMNPRSTXYZ")
        n = r.randint(10, 9998)
        fields = {"a": a, "b": b, "n": n, "a_": a.lower(), "next": n + 1}
        return given.format(**fields), wanted.format(**fields)

    return example


def _version(rng: random.Random) -> Example:
    forms: tuple[Callable[[int, int, int], str], ...] = (
        lambda a, b, c: f"{a}.{b}.{c + 1}", lambda a, b, c: f"{a}.{b + 1}.0", lambda a, b, c: f"{a + 1}.0.0",
        lambda a, b, c: f"v{a}.{b}", lambda a, b, c: f"v{a}.{b}.{c}", lambda a, b, c: f"{a}.{b}", lambda a, b,
        c: f"{a}",
        lambda a, b, c: f"{a}-{b}-{c}", lambda a, b, c: f"{c}.{b}.{a}", lambda a, b, c: f"release {a}, patch {c}",
    )  # fmt: skip
    form = rng.choice(forms)

    def example(r: random.Random) -> TextPair:
        a, b, c = r.randint(0, 12), r.randint(0, 20), r.randint(0, 20)
        return f"{a}.{b}.{c}", form(a, b, c)

    return example


def _number_in_words(rng: random.Random) -> Example:
    kind, reads = rng.randrange(5), rng.random() < 0.4
    ordinals = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")

    def example(r: random.Random) -> TextPair:
        n = r.randint(1, 20) if kind != 3 else r.randint(1, 10)
        if kind == 4:
            n = r.randint(21, 99)
            tens = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")[n // 10 - 2]
            word = tens + (f"-{NUMBER_WORDS[n % 10]}" if n % 10 else "")
        else:
            word = (NUMBER_WORDS[n], _roman(n), f"{n}{_ordinal_end(n)}", ordinals[(n - 1) % 10])[kind]
        return (word, str(n)) if reads else (str(n), word)

    return example


def _roman(n: int) -> str:
    pieces = ((10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"))
    text = ""
    for value, letters in pieces:
        text += letters * (n // value)
        n %= value
    return text


def _ordinal_end(n: int) -> str:
    return "th" if n in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")


RECORD_FAMILIES = tuple(
    text_family(name, draw_rule)
    for name, draw_rule in (
        ("phone_format", _phone), ("price_format", _price), ("unit_conversion", _units),
        ("record_to_sentence", _record_to_sentence), ("record_field", _field_of_record), ("record_column", _column),
        ("file_path", _file_path), ("web_address", _web_address), ("product_code", _product_code),
        ("version_number", _version), ("number_in_words", _number_in_words),
    )
)  # fmt: skip
