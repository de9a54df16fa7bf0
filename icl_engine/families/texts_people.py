"""Text families over people and days: dates, times, names, mail addresses."""

import random
from dataclasses import dataclass

from icl_engine.families.text_rules import Example, TextPair, text_family
from icl_engine.families.words import (
    FIRST_NAMES,
    LAST_NAMES,
    MONTHS,
    NUMBER_WORDS,
    WEEKDAYS,
    invented_word,
    web_domain,
)


@dataclass(frozen=True, slots=True)
class Date:
    """A day, with what every written form of it needs."""

    day: int
    month: int
    year: int

    def write(self, layout: str) -> str:
        """Write the date in `layout`, whose fields are d, dd, m, mm, mon, month, yy, yyyy."""
        name = MONTHS[self.month - 1]
        return layout.format(
            d=self.day, dd=f"{self.day:02}", m=self.month, mm=f"{self.month:02}", mon=name[:3], month=name,
            MON=name[:3].upper(), yy=f"{self.year % 100:02}", yyyy=self.year,
        )  # fmt: skip


DATE_LAYOUTS = (
    "{yyyy}-{mm}-{dd}", "{dd}/{mm}/{yyyy}", "{mm}/{dd}/{yyyy}", "{dd}.{mm}.{yyyy}", "{d} {month} {yyyy}",
    "{month} {d}, {yyyy}", "{d} {mon} {yyyy}", "{mon} {d}, {yyyy}", "{yyyy}{mm}{dd}", "{dd}-{MON}-{yy}",
    "{d}.{m}.{yy}", "{yyyy}/{mm}/{dd}", "{mm}-{dd}-{yy}", "{d}/{m}/{yyyy}", "{yyyy} {mon} {dd}", "{dd}{mm}{yy}",
)  # fmt: skip


DATE_PARTS = ("{yyyy}", "{month}", "{mon}", "{dd}", "{mm}", "{d}", "{yy}", "{mm}/{yy}", "{d} {mon}", "{month} {yyyy}",
              "{yyyy}-{mm}", "{mon} {d}", "{MON}")  # fmt: skip


NAME_LAYOUTS = (
    "{first} {last}", "{last}, {first}", "{last} {first}", "{f}. {last}", "{last}, {f}.", "{first} {l}.", "{f}{l}",
    "{f}.{l}.", "{LAST}, {first}", "{LAST} {first}", "{first_} {last_}", "{FIRST} {LAST}", "{first}_{last}", "{l}{f}",
    "{f} {last}", "{first_}.{last_}", "{last_}-{first_}", "Mr. {last}", "Dear {first},", "{last}/{first}",
)  # fmt: skip


ACCOUNT_LAYOUTS = (
    "{first_}.{last_}", "{f_}{last_}", "{first_}{l_}", "{last_}{f_}", "{first_}_{last_}", "{last_}.{first_}",
    "{first_}-{last_}", "{f_}.{last_}", "{first_}{last_}", "{f_}{l_}", "{last_}_{f_}", "{f_}{l4}", "{l4}{f_}",
)  # fmt: skip


def _date(rng: random.Random) -> Date:
    return Date(int(rng.random() * 28) + 1, int(rng.random() * 12) + 1, 1950 + int(rng.random() * 90))


def _name_fields(rng: random.Random) -> dict[str, str]:
    first, last = rng.choice(FIRST_NAMES), rng.choice(LAST_NAMES)
    if rng.random() < 0.3:
        last = invented_word(rng, 2).capitalize()
    return {
        "first": first, "last": last, "first_": first.lower(), "last_": last.lower(), "f": first[0], "l": last[0],
        "FIRST": first.upper(), "LAST": last.upper(), "f_": first[0].lower(), "l_": last[0].lower(),
        "l4": last[:4].lower(),
    }  # fmt: skip


def _rewrite_date(given: str, wanted: str) -> Example:
    def example(r: random.Random) -> TextPair:
        date = _date(r)
        return date.write(given), date.write(wanted)

    return example


def _date_format(rng: random.Random) -> Example:
    given, wanted = rng.sample(DATE_LAYOUTS, 2)
    return _rewrite_date(given, wanted)


def _date_part(rng: random.Random) -> Example:
    given, wanted = rng.choice(DATE_LAYOUTS[:12]), rng.choice(DATE_PARTS)
    return _rewrite_date(given, wanted)


def _time_format(rng: random.Random) -> Example:
    layouts = ("{h:02}:{m:02}", "{t}:{m:02} {half}", "{t}.{m:02}{half}", "{h}h{m:02}", "{h:02}{m:02}", "{h}:{m:02}:00")
    given, wanted = rng.sample(layouts, 2)

    def example(r: random.Random) -> TextPair:
        hour, minute = r.randrange(24), r.choice((0, 5, 10, 15, 20, 30, 40, 45, r.randrange(60)))
        fields = {"h": hour, "m": minute, "t": (hour + 11) % 12 + 1, "half": "am" if hour < 12 else "pm"}
        return given.format(**fields), wanted.format(**fields)

    return example


def _add_minutes(rng: random.Random) -> Example:
    step = rng.choice((10, 15, 30, 45, 60, 90, 120, -30, -60))

    def example(r: random.Random) -> TextPair:
        start = r.randrange(2 * 60, 21 * 60, 5)
        end = start + step
        return f"{start // 60:02}:{start % 60:02}", f"{end // 60:02}:{end % 60:02}"

    return example


def _name_format(rng: random.Random) -> Example:
    given = rng.choice(("{first} {last}", "{first} {last}", "{last}, {first}", "{first_} {last_}", "{first}_{last}"))
    wanted = rng.choice([layout for layout in NAME_LAYOUTS if layout != given])

    def example(r: random.Random) -> TextPair:
        fields = _name_fields(r)
        return given.format(**fields), wanted.format(**fields)

    return example


def _three_part_name(rng: random.Random) -> Example:
    layouts = ("{a} {c}", "{a} {b0}. {c}", "{c}, {a} {b0}.", "{a0}{b0}{c0}", "{a0}. {b0}. {c}", "{c}, {a0}{b0}", "{b}",
               "{c} {a} {b}", "{a0}.{b0}.{c0}.", "{c}, {a} {b}")  # fmt: skip
    wanted = rng.choice(layouts)

    def example(r: random.Random) -> TextPair:
        a, b = r.sample(FIRST_NAMES, 2)
        c = r.choice(LAST_NAMES)
        return f"{a} {b} {c}", wanted.format(a=a, b=b, c=c, a0=a[0], b0=b[0], c0=c[0])

    return example


def _make_address(rng: random.Random) -> Example:
    domain, account = web_domain(rng), rng.choice(ACCOUNT_LAYOUTS)
    given = rng.choice(("{first} {last}", "{last}, {first}", "{first} {last}"))
    if rng.random() < 0.35:
        wanted = rng.choice(("{0}", "@{0}", "~{0}", "{0}1", "user:{0}")).format(account)
    else:
        wanted = f"{account}@{domain}"

    def example(r: random.Random) -> TextPair:
        fields = _name_fields(r)
        return given.format(**fields), wanted.format(**fields)

    return example


def _read_address(rng: random.Random) -> Example:
    wanted = rng.choice(("{first_}", "{host}", "{site}", "{first} {last}", "{last_}", "{last}, {first}", "{end}",
                         "{first_}.{last_}", "@{host}", "{f}. {last}"))  # fmt: skip

    def example(r: random.Random) -> TextPair:
        fields, host = _name_fields(r), web_domain(r)
        site, end = host.split(".")
        given = f"{fields['first_']}.{fields['last_']}@{host}"
        return given, wanted.format(**fields, host=host, site=site, end=end)

    return example


def _calendar_step(rng: random.Random) -> Example:
    names = rng.choice((WEEKDAYS, MONTHS, tuple(d[:3] for d in WEEKDAYS), tuple(m[:3] for m in MONTHS), NUMBER_WORDS))
    step = rng.choice((1, 1, -1, 2, 3, -2))

    def example(r: random.Random) -> TextPair:
        i = r.randrange(len(names))
        return names[i], names[(i + step) % len(names)]

    return example


PEOPLE_FAMILIES = tuple(
    text_family(name, draw_rule)
    for name, draw_rule in (
        ("date_format", _date_format), ("date_part", _date_part), ("time_format", _time_format),
        ("time_add_minutes", _add_minutes), ("name_format", _name_format),
        ("name_of_three_parts", _three_part_name), ("address_from_name", _make_address),
        ("address_parts", _read_address), ("calendar_step", _calendar_step),
    )
)  # fmt: skip
