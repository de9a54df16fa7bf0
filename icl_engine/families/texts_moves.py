"""The rules of text families `world_swaps` and `world_walk_home`: what is where after a number of moves."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from icl_engine.families.text_rules import Example, TextPair
from icl_engine.families.wordings import question_style, story_opening, truth_style
from icl_engine.families.words import FIRST_NAMES, KINDS, THINGS

_SIGHTS = ("lake", "gate", "oak", "tower", "barn", "mill", "chapel", "harbour", "statue", "well", "bridge", "garden")
_CHORES = ("cooking", "sweeping", "baking", "weeding", "painting", "ironing", "milking", "digging", "dusting")
_BOATS = ("Heron", "Comet", "Marigold", "Seagull", "Thistle", "Dolphin", "Lantern", "Pelican", "Juniper", "Walrus")
_COURSES = ("Latin", "algebra", "pottery", "botany", "Greek", "drawing", "physics", "singing", "history", "fencing")
_NUMBERED = tuple(str(n) for n in range(1, 31))


@dataclass(frozen=True, slots=True)
class _Setting:
    """A way to say who has what, that two of them swap, and to ask for what somebody has in the end."""

    things: tuple[str, ...]
    start: str
    swap: str
    question: str


_SHORT_SWAPS = ("{a} and {b} trade.", "{a} swaps with {b}.", "{a}<->{b}.", "{a} changes with {b}.", "{a} / {b} switch.")
_SHORT_STARTS = ("{a}: {x}", "{a} has the {x}", "{a} holds {x}", "{a}={x}", "{a} begins with the {x}")
_SHORT_QUESTIONS = ("{a} has?", "What does {a} hold now?", "{a}:", "At last {a} keeps", "And {a}?")
_SETTINGS = (
    _Setting(tuple(f"{x} hat" for x in KINDS["colour"]), "{a} came with the {x}", "{a} and {b} exchange their hats.",
             "Which one is on the head of {a} when they leave?"),
    _Setting(tuple(f"seat {n}" for n in _NUMBERED), "{a} is in {x}", "{a} and {b} ask to sit in each other's seat.",
             "By now {a} sits in"),
    _Setting(_CHORES, "{a} is down for {x}", "{a} takes over the duty of {b}, who does that of {a}.",
             "What is left for {a} to do?"),
    _Setting(tuple(f"the {x}" for x in _BOATS), "{a} sails {x}", "{a} and {b} row across to the boat of the other.",
             "On the way home {a} is aboard"),
    _Setting(tuple(f"{x} pony" for x in KINDS["colour"]), "{a} rides the {x}", "{a} and {b} change ponies.",
             "In the evening {a} brushes the"),
    _Setting(tuple(f"the room by the {x}" for x in _SIGHTS), "{a} sleeps in {x}", "{a} trades rooms with {b}.",
             "Where will {a} sleep tonight?"),
    _Setting(tuple(f"parcel {n}" for n in _NUMBERED), "{a} opens {x}", "{a} hands over to {b} and gets that one's.",
             "{a} goes away with"),
    _Setting(tuple(f"box of {x}s" for x in ("nail", "stamp", "button", "coin", "shell", "candle", "pencil", "marble")),
             "{a} carries the {x}", "{a} puts it down for {b} and lifts the one of {b}.", "What does {a} carry home?"),
    _Setting(_COURSES, "{a} signed up for {x}", "{b} and {a} switch places on the lists.", "{a} now learns"),
    _Setting(THINGS, "{a} drew a card with the word {x}", "{a} passes the card to {b} for that of {b}.",
             "Which word does {a} read out?"),
    _Setting(tuple(f"{x} lamp" for x in KINDS["colour"]), "the light of {a} is a {x}", "{a} and {b} barter.",
             "What shines beside {a} at midnight?"),
)  # fmt: skip
_FIRSTS = ("First, ", "To begin with, ", "At nine o'clock, ", "Early on, ", "Before lunch, ")
_NEXTS = ("Then ", "Next, ", "After that ", "A little later ", "Soon ", "Once more, ", "Thereupon ", "Again, ")
_LASTS = ("Last of all, ", "In the end ", "To finish, ", "At closing time ", "Just before the bell ")


def _draw_setting(rng: random.Random) -> _Setting:
    if rng.random() < 0.6:
        return rng.choice(_SETTINGS)
    short = (rng.choice(wordings) for wordings in (_SHORT_STARTS, _SHORT_SWAPS, _SHORT_QUESTIONS))
    return _Setting(KINDS[rng.choice(tuple(KINDS))], *short)


def _draw_links(rng: random.Random) -> Callable[[random.Random, int], list[str]]:
    """Draw how the sentences of a story follow each other: bare, or each with a word or two on when it happens."""
    if rng.random() < 0.35:
        return lambda r, n: [""] * n
    first, last, nexts = rng.choice(_FIRSTS), rng.choice(_LASTS), rng.sample(_NEXTS, rng.randint(1, 4))
    return lambda r, n: [first, *(r.choice(nexts) for _ in range(n - 2)), last][:n]


def world_swaps(rng: random.Random) -> Example:
    """Draw a setting and a length; examples ask what somebody has after swaps between two at a time."""
    setting, links, opening = _draw_setting(rng), _draw_links(rng), story_opening(rng, share_none=0.7)
    n_holders, most_swaps = rng.choice((2, 3, 3, 3, 3, 4, 5)), rng.choice((1, 2, 2, 3, 3, 4, 5, 6))
    fewest_swaps, joint = rng.choice((1, max(1, most_swaps - 1))), rng.choice((", ", "; ", ", and "))
    ask = question_style(rng, share_open=0.3)

    def example(r: random.Random) -> TextPair:
        holders, things = r.sample(FIRST_NAMES, n_holders), r.sample(setting.things, n_holders)
        has = dict(zip(holders, things, strict=True))
        told = [joint.join(setting.start.format(a=a, x=x) for a, x in has.items()) + "."]
        for link in links(r, r.randint(fewest_swaps, most_swaps)):
            a, b = r.sample(holders, 2)
            has[a], has[b] = has[b], has[a]
            told.append(link + setting.swap.format(a=a, b=b))
        asked = r.choice(holders)
        return ask(r, opening(r, holders) + " ".join([*told, setting.question.format(a=asked)]), things, has[asked])

    return example


Leg = tuple[int, int]  # the side (north, east, south, west or ahead, right, back, left) and how many paces


def _there_and_back(r: random.Random, n_legs: int) -> list[Leg]:
    """Return a loop, each of whose legs has a counterpart; where `n_legs` is odd, one of them is in two parts."""
    out = [(r.randrange(4), r.randint(1, 9)) for _ in range(n_legs // 2)]
    back = [((side + 2) % 4, n) for side, n in out]
    if n_legs % 2:
        side, n = back.pop()
        part = r.randint(1, n)
        back += [(side, part), (side, n - part)] if part < n else [(side, n + 1), ((side + 2) % 4, 1)]
    return out + back


def _closed(r: random.Random, n_legs: int) -> list[Leg]:
    """Return a loop of at most `n_legs` legs, of which the last ones make up for all the others."""
    legs = [(r.randrange(4), r.randint(1, 9)) for _ in range(max(1, n_legs - 2))]
    for side in (0, 1):
        ahead = _length(legs, side) - _length(legs, side + 2)
        if ahead:
            legs.append((side + 2 if ahead > 0 else side, abs(ahead)))
    return legs


def _length(legs: list[Leg], at: int) -> int:
    return sum(n for side, n in legs if side == at)


def _astray(r: random.Random, legs: list[Leg]) -> list[Leg]:
    """Return the walk with one or two legs changed a little; it may still lead home."""
    legs = list(legs)
    for _ in range(r.randint(1, 2)):
        i = r.randrange(len(legs))
        side, n = legs[i]
        legs[i] = r.choice(((side, max(1, n + r.choice((-2, -1, 1, 2)))), ((side + r.choice((1, 2, 3))) % 4, n)))
    return legs


def _ends_at_start(legs: list[Leg]) -> bool:
    return all(_length(legs, side) == _length(legs, side + 2) for side in (0, 1))


_SIDES = (
    ("north", "east", "south", "west"), ("up", "right", "down", "left"), ("N", "E", "S", "W"),
    ("ahead", "right", "back", "left"), ("forward", "to the right", "backward", "to the left"),
    ("to the front", "rightwards", "to the rear", "leftwards"),
)  # fmt: skip
_STEPS = ("{d} {n}", "{n} {d}", "go {n} {d}", "{n} {u} {d}", "Walk {n} {u} {d}", "{n} {u} {d}", "move {d} by {n}")
_UNITS = (("pace", "paces"), ("foot", "feet"), ("tile", "tiles"), ("stride", "strides"), ("yard", "yards"))
_WALK_QUESTIONS = (
    "{}", "{} -- home again?", "Back at the door? {}", "{}: same spot?", "loop? {}", "Ends at start: {}?",
    "A robot obeys this: {} Is it on its old tile when it stops?", "Notes for a stroll: {}. Does the stroll end there "
    "where it set out?", "{}. Am I standing where I stood before?", "Round trip or not: {}",
)  # fmt: skip
_TURNS = (
    ("", "turn right", "turn around", "turn left"), ("", "right turn", "about turn", "left turn"),
    ("", "face right", "face the other way", "face left"), ("", "R", "B", "L"),
    ("", "make a quarter turn to the right", "make a half turn", "make a quarter turn to the left"),
)  # fmt: skip
_PACES = ("{n} {u}", "go {n}", "walk {n} {u}", "{n} {u} on", "move on by {n}", "{n}")


def _draw_sides(rng: random.Random, joint: str) -> Callable[[random.Random, list[Leg]], str]:
    """Draw a way to tell legs by their sides, the walker never turning."""
    close = joint == " "  # nothing but a blank between legs
    names, step = rng.choice(_SIDES[:4] if close else _SIDES), "{d}{n}" if close else rng.choice(_STEPS)
    units, note = rng.choice(_UNITS), ""
    if names[0] in ("ahead", "forward"):
        note = rng.choice(("", "", "Keep your nose to the same wall. ", "Never turning, one makes these moves: "))
    return lambda r, legs: note + joint.join(step.format(d=names[side], n=n, u=units[n > 1]) for side, n in legs)


def _draw_turns(rng: random.Random, joint: str) -> Callable[[random.Random, list[Leg]], str]:
    """Draw a way to tell legs by the turn before each of them."""
    turns, paces, units = rng.choice(_TURNS), rng.choice(_PACES), rng.choice(_UNITS)

    def told(r: random.Random, legs: list[Leg]) -> str:
        said, facing = [], r.randrange(4)
        for side, n in legs:
            said += [turns[(side - facing) % 4], paces.format(n=n, u=units[n > 1])]
            facing = side
        return joint.join(part for part in said if part)

    return told


def world_walk_home(rng: random.Random) -> Example:
    """Draw a way to tell a walk and a length; examples tell whether it ends where it began."""
    joint = rng.choice((", ", "; ", " ", ". ", " then "))
    tell = (_draw_turns if rng.random() < 0.4 else _draw_sides)(rng, joint)
    wording, opening, ask = rng.choice(_WALK_QUESTIONS), story_opening(rng, share_none=0.7), truth_style(rng)
    most_legs = rng.choice((2, 3, 4, 4, 5, 6, 7, 8, 9, 10))

    def example(r: random.Random) -> TextPair:
        legs = r.choice((_there_and_back, _closed))(r, r.randint(max(2, most_legs - 4), most_legs))
        if r.random() < 0.7:
            r.shuffle(legs)
        if r.random() < 0.5:
            legs = _astray(r, legs)
        return ask(r, opening(r, []) + wording.format(tell(r, legs)), _ends_at_start(legs))

    return example
