"""Text families about small worlds in words: people who swap things, walks, queues, claims and plans."""

import random
from datetime import date, timedelta
from itertools import pairwise

from icl_engine.families.text_rules import Example, TextPair, text_family
from icl_engine.families.texts_moves import world_swaps, world_walk_home
from icl_engine.families.wordings import question_style, story_opening, truth_labels, truth_style
from icl_engine.families.words import (
    FIRST_NAMES,
    MONTHS,
    THINGS,
    WEEKDAYS,
    invented_word,
    with_article,
)


def _gifts(rng: random.Random) -> Example:
    give = rng.choice(
        ("{a} gives the {x} to {b}.", "{b} takes the {x} from {a}.", "{x}: {a} -> {b}.", "{a} hands {b} the {x}.")
    )
    wording = rng.choice(("Who has the {x}?", "The {x} is with", "{x}?", "Where did the {x} end?"))

    def example(r: random.Random) -> TextPair:
        people, thing = r.sample(FIRST_NAMES, r.randint(3, 4)), r.choice(THINGS)
        at, told = people[0], f"{people[0]} has {with_article(thing)}. "
        for _ in range(r.randint(1, 3)):
            to = r.choice([p for p in people if p != at])
            told, at = told + give.format(a=at, b=to, x=thing) + " ", to
        return told + wording.format(x=thing), at

    return example


def _walk_end(rng: random.Random) -> Example:
    letters = rng.choice(("NSEW", "UDRL", "^v><", "wsda"))
    end = rng.choice(("{x},{y}", "({x}, {y})", "x{x} y{y}", "{x} {y}"))
    one_way = rng.random() < 0.4

    def example(r: random.Random) -> TextPair:
        path = [r.randrange(4) if not one_way else r.choice((0, 2)) for _ in range(r.randint(2, 7))]
        y, x = path.count(0) - path.count(1), path.count(2) - path.count(3)
        return "".join(letters[d] for d in path), end.format(x=x, y=y)

    return example


def _turns(rng: random.Random) -> Example:
    sides = rng.choice((("north", "east", "south", "west"), ("N", "E", "S", "W")))
    left, right, back = rng.choice(
        (("left", "right", "around"), ("L", "R", "B"), ("turn left", "turn right", "turn back"))
    )
    wording = rng.choice(("Facing {a}: {t}", "{a}; {t}", "Look {a}, {t}. Facing?", "{t} from {a}"))

    def example(r: random.Random) -> TextPair:
        at, turns = r.randrange(4), [r.choice((1, 1, 3, 3, 2)) for _ in range(r.randint(1, 4))]
        said = ", ".join({1: right, 2: back, 3: left}[t] for t in turns)
        return wording.format(a=sides[at], t=said), sides[(at + sum(turns)) % 4]

    return example


_RANKINGS = (  # said of a over b, the same with b named first, the first in rank, the last
    ("{a} is taller than {b}", "{b} is shorter than {a}", "tallest", "shortest"),
    ("{a} beat {b}", "{b} lost to {a}", "best", "worst"), ("{a} > {b}", "{b} < {a}", "greatest", "smallest"),
    ("{a} is older than {b}", "{b} was born after {a}", "oldest", "youngest"),
    ("{a} sits left of {b}", "to the right of {a} one finds {b}", "leftmost", "rightmost"),
    ("{a} came before {b}", "{b} came in behind {a}", "earliest", "latest"),
    ("{a} weighs more than {b}", "{b} is not as heavy as {a}", "heaviest", "lightest"),
    ("{b} is below {a}", "{a} lives a floor or more above {b}", "highest", "lowest"),
    ("{b} costs less than {a}", "for {a} one pays more than for {b}", "dearest", "cheapest"),
)  # fmt: skip
_ORDINALS = ("", "second ", "third ", "fourth ")


def _ranking(rng: random.Random) -> Example:
    more, less, most, least = rng.choice(_RANKINGS)
    layout = rng.choice(
        (
            "{facts}. {which}?",
            "{facts}. Who is {which}?",
            "{which}: {facts}",
            "{facts}. So {which} is",
            "Find out who is {which}. {facts}.",
            "{facts}. From this it follows who is {which}:",
        )
    )
    n_people, ask, joint = rng.choice((3, 3, 4, 5)), question_style(rng, share_open=0.3), rng.choice((", ", "; ", ". "))
    share_less, any_place, opening = rng.choice((0.0, 0.5)), rng.random() < 0.4, story_opening(rng, share_none=0.7)

    def example(r: random.Random) -> TextPair:
        order = r.sample(FIRST_NAMES, n_people)
        facts = [(less if r.random() < share_less else more).format(a=a, b=b) for a, b in pairwise(order)]
        place = r.randrange(n_people - 1) if any_place else 0
        top = r.random() < 0.5
        which = _ORDINALS[place] + (most if top else least)
        question = layout.format(facts=joint.join(r.sample(facts, len(facts))), which=which)
        return ask(r, opening(r, order) + question, order, order[place if top else -1 - place])

    return example


def _queue_place(rng: random.Random) -> Example:
    layout = rng.choice(("{q}. Place {n}?", "Queue: {q}. Number {n} is", "{q} | {n}", "In line {q}; who is {n}?"))
    backwards, next_to = rng.random() < 0.3, rng.random() < 0.4
    neighbour = rng.choice(("after {x}", "who follows {x}?", "behind {x}", "next to come past {x}"))
    ask = question_style(rng, share_open=0.7)

    def example(r: random.Random) -> TextPair:
        queue = r.sample(FIRST_NAMES, r.randint(3, 5))
        i = r.randrange(1, len(queue))
        shown = ", ".join(queue)
        if next_to:
            return ask(r, f"{shown}: {neighbour.format(x=queue[i - 1])}", queue, queue[i])
        return ask(r, layout.format(q=shown, n=i + 1), queue, queue[-i - 1] if backwards else queue[i])

    return example


_HONESTIES = (  # honest, not so, the word to ask with
    ("is honest", "is a fibber", "honest"), ("is right", "is wrong", "right"),
    ("can be trusted", "cannot be trusted", "to be trusted"), ("keeps to the facts", "makes things up", "reliable"),
    ("is a knight", "is a knave", "a knight"), ("never bluffs", "always bluffs", "free of bluffing"),
)  # fmt: skip


def _claims(rng: random.Random) -> Example:
    (true, false, adjective), ask = rng.choice(_HONESTIES), truth_style(rng)
    says = rng.choice(("{a}: {b} {claim}.", "{a} claims {b} {claim}.", "{a} writes that {b} {claim}.",
                       "Asked about {b}, {a} answers: {b} {claim}.", "According to {a}, {b} {claim}."))  # fmt: skip
    wording = rng.choice(("Is {a} {adj}?", "{a} {adj}?", "So, {a} {adj}?", "Must we think of {a} as {adj}?"))
    most, opening, mixed = rng.choice((2, 3, 3, 4, 5, 6)), story_opening(rng, share_none=0.7), rng.random() < 0.2

    def example(r: random.Random) -> TextPair:
        people = r.sample(FIRST_NAMES, r.randint(max(2, most - 2), most))
        truth = r.random() < 0.5
        told = [f"{people[0]} {true if truth else false}."]
        for before, speaker in pairwise(people):
            claims_true = r.random() < 0.5
            told.append(says.format(a=speaker, b=before, claim=true if claims_true else false))
            truth = claims_true == truth
        told = r.sample(told, len(told)) if mixed else told
        return ask(r, opening(r, people) + " ".join([*told, wording.format(a=people[-1], adj=adjective)]), truth)

    return example


def _deduction(rng: random.Random) -> Example:
    label = truth_labels(rng)
    all_, is_, so = rng.choice((("Every {a} is a {b}.", "{n} is a {a}.", "Is {n} a {b}?"),
    ("All {a}s are {b}s.", "{n}: a {a}.",
                                "{n} a {b}?"), ("{a} => {b}.", "{n}: {a}.", "{n}: {b}?")))  # fmt: skip

    def example(r: random.Random) -> TextPair:
        a, b, c, d = (invented_word(r, 2) for _ in range(4))
        name = r.choice(FIRST_NAMES)
        rules, chain = [all_.format(a=a, b=b), all_.format(a=b, b=c)], (a, b, c)
        r.shuffle(rules)
        start, goal = (0, r.choice((1, 2))) if r.random() < 0.5 else (r.choice((1, 2)), 0)
        target = chain[goal] if start == 0 or r.random() < 0.6 else d
        told = " ".join([*rules, is_.format(n=name, a=chain[start]), so.format(n=name, b=target)])
        return told, label(start == 0)

    return example


def _free_time(rng: random.Random) -> Example:
    busy = rng.choice(("{a}-{b} {x}", "{x} from {a} to {b}", "{x} {a}..{b}", "{a} to {b}: {x}"))
    wording = rng.choice(("Day {s}-{e}. {plan}. Free?", "Open {s} to {e}; {plan}. Gap:", "{s}-{e} | {plan}"))
    layout = rng.choice(("{a}-{b}", "{a} to {b}", "from {a} until {b}"))
    acts = ("work", "lunch", "a walk", "music", "the shop", "a call", "sport", "chess", "a nap")

    def example(r: random.Random) -> TextPair:
        n = r.randint(3, 4)
        times = sorted(r.sample(range(7, 21), n + 1))
        gap = r.randrange(n)
        plan = [busy.format(a=times[i], b=times[i + 1], x=r.choice(acts)) for i in range(n) if i != gap]
        question = wording.format(s=times[0], e=times[-1], plan=", ".join(r.sample(plan, len(plan))))
        return question, layout.format(a=times[gap], b=times[gap + 1])

    return example


def _days_ahead(rng: random.Random) -> Example:
    if rng.random() < 0.4:
        return _dates_ahead(rng)
    names, unit = rng.choice(((WEEKDAYS, "day"), (MONTHS, "month")))
    wording = rng.choice(("{x} + {n} {u}s", "Now {x}. In {n} {u}s?", "{n} {u}s after {x}", "{x}, then {n} {u}s pass:",
                          "Today {x}; {n} {u}s later", "The parcel went off one {x} and was {n} {u}s on the way. "
                          "It arrived in time, namely in the course of a"))  # fmt: skip
    back, most = rng.random() < 0.25, rng.choice((6, 6, 10, 20))
    ask = question_style(rng, share_open=0.75)
    if back:
        wording = rng.choice(("{n} {u}s before {x}", "{x} - {n} {u}s", "It is {x}. {n} {u}s ago?"))

    def example(r: random.Random) -> TextPair:
        i, n = r.randrange(len(names)), r.randint(2, most)
        right = names[(i - n if back else i + n) % len(names)]
        wrong = r.sample([x for x in names if x != right], 2)
        return ask(r, wording.format(x=names[i], n=n, u=unit), [right, *wrong], right)

    return example


_DATE_WORDINGS = (  # {x} a date, {n} how many days, {way} after or before it
    "{n} d {way} {x}", "{x}: {n} days {way}", "Ink on the wall says {x}. Which date is {n} days {way} that?",
    "They married on {x}. The letter was written {n} days {way} it, on", "{x} | {way} {n}",
    "Our calendar shows {x}, and we look for the date {n} days {way} this one.",
)  # fmt: skip
_DATE_LAYOUTS = ("{y}-{m:02}-{d:02}", "{d}.{m}.{y}", "{d:02}.{m:02}.{y}", "{d} {name} {y}", "{name} {d}, {y}")


def _dates_ahead(rng: random.Random) -> Example:
    wording, layout, same = rng.choice(_DATE_WORDINGS), rng.choice(_DATE_LAYOUTS), rng.random() < 0.7
    layout_out, way = layout if same else rng.choice(_DATE_LAYOUTS), rng.choice(("after", "after", "before"))
    most, ask = rng.choice((3, 7, 10, 30)), question_style(rng, share_open=0.7)

    def write(day: date, form: str) -> str:
        return form.format(y=day.year, m=day.month, d=day.day, name=MONTHS[day.month - 1])

    def example(r: random.Random) -> TextPair:
        day, n = date(1999, 1, 1) + timedelta(days=r.randrange(12000)), r.randint(2, most)
        steps = [n, *(n + error for error in r.sample((-7, -2, -1, 1, 2, 7, 30), 3))]
        days = [day + timedelta(days=step if way == "after" else -step) for step in steps]
        choices = [write(x, layout_out) for x in days]
        return ask(r, wording.format(x=write(day, layout), n=n, way=way), choices, choices[0])

    return example


WORLD_FAMILIES = tuple(
    text_family(name, draw_rule)
    for name, draw_rule in (
        ("world_swaps", world_swaps), ("world_gifts", _gifts), ("world_walk_home", world_walk_home),
        ("world_walk_end", _walk_end), ("world_turns", _turns), ("world_ranking", _ranking),
        ("world_queue", _queue_place), ("world_claims", _claims), ("world_deduction", _deduction),
        ("world_free_time", _free_time), ("world_days_ahead", _days_ahead),
    )
)  # fmt: skip
