"""Ways to put a question in words: labels of a yes-or-no answer and layouts of lettered options."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from icl_engine.families.words import COMMON_WORDS

LABELS = (
    ("yes", "no"), ("Yes", "No"), ("true", "false"), ("True", "False"), ("T", "F"), ("1", "0"), ("Y", "N"),
    ("right", "wrong"), ("ok", "bad"), ("correct", "incorrect"), ("+", "-"),
)  # fmt: skip
_OPENINGS = (
    "{who} spent the evening in the old mill.", "This is how {who} passed a rainy day:", "Read with care.",
    "It was told by {who} at the fair.", "Nothing else happened.", "Here is the next riddle of the evening.",
    "{who} came by the early train and brought a bag each.", "The rules are the usual ones.",
    "A note says what {who} did, line by line.", "We shall only be asked about the end of it.",
)  # fmt: skip
Ask = Callable[[random.Random, str, Sequence[str], str], tuple[str, str]]


def truth_labels(rng: random.Random) -> Callable[[bool], str]:
    """Draw the two words that stand for true and false in one task."""
    yes, no = rng.choice(LABELS)
    return lambda truth: yes if truth else no


@dataclass(frozen=True, slots=True)
class OptionLayout:
    """How options follow a question, and how the chosen one is named."""

    heading: str
    mark: str  # of one option, with the fields `label` and `choice`
    joint: str
    answer: str  # the same fields

    def write(self, question: str, choices: Sequence[str], right: int) -> tuple[str, str]:
        """Return the question with its options, and the answer that names option `right`."""
        labels = "123456" if "#" in self.mark else "abcdef" if ")" in self.mark and "(" not in self.mark else "ABCDEF"
        mark = self.mark.replace("#", "")
        listed = [mark.format(label=labels[i], choice=choice) for i, choice in enumerate(choices)]
        wanted = self.answer.format(label=labels[right], choice=choices[right])
        return question + self.heading + self.joint.join(listed), wanted


_OPTION_LAYOUTS = (
    OptionLayout("\n", "({label}) {choice}", "\n", "({label})"),
    OptionLayout("\nPick:\n", "({label}) {choice}", "\n", "({label})"),
    OptionLayout(" ", "({label}) {choice}", " ", "({label})"), OptionLayout(" ", "{label}) {choice}", " ", "{label}"),
    OptionLayout("\nChoices: ", "({label}) {choice}", ", ", "({label})"),
    OptionLayout(" ", "({label}) {choice}", " ", "{label}"),
    OptionLayout(" / ", "{label}: {choice}", ", ", "{label}"),
    OptionLayout(" | ", "{label} = {choice}", "; ", "{label}"),
    OptionLayout(" ", "#{label}. {choice}", " ", "{label}"),
    OptionLayout("\n", "#[{label}] {choice}", "\n", "[{label}]"),
    OptionLayout(" One of: ", "{choice}", ", ", "{choice}"), OptionLayout(" ", "{choice}", " or ", "{choice}"),
)  # fmt: skip


def story_opening(rng: random.Random, share_none: float = 0.5) -> Callable[[random.Random, Sequence[str]], str]:
    """Draw how the examples of one task open: with nothing (probability `share_none`) or with a sentence or two beside
    the point.

    Returns:
        A function of rng and the names in the story; what it returns ends in a space, or is empty.
    """
    sentences = rng.sample(_OPENINGS, rng.randint(1, 2))
    if rng.random() < share_none:
        return lambda r, names: ""

    def opening(r: random.Random, names: Sequence[str]) -> str:
        who = ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else "Somebody"
        return " ".join(sentence.format(who=who) for sentence in sentences) + " "

    return opening


def question_style(rng: random.Random, share_open: float = 0.4) -> Ask:
    """Draw how one task asks: with no options (probability `share_open`) or with lettered, numbered or plain ones.

    Returns:
        A function of rng, question, choices and the right choice; it shuffles the choices and returns the pair.
    """
    if rng.random() < share_open:
        return lambda r, question, choices, right: (question, right)
    layout = rng.choice(_OPTION_LAYOUTS)

    def ask(r: random.Random, question: str, choices: Sequence[str], right: str) -> tuple[str, str]:
        listed = r.sample(list(choices), len(choices))
        return layout.write(question, listed, listed.index(right))

    return ask


_TRUTH_TAILS = (
    " ({yes}/{no})", " Say {yes} or {no}.", "\nAnswers: {yes}, {no}", "\n* {yes}\n* {no}", " -- {yes} or {no}?",
    "\nTwo possible answers:\n{yes}\n{no}", " [{yes} | {no}]", "\nReply with {yes} or with {no}:",
)  # fmt: skip


def truth_style(rng: random.Random) -> Callable[[random.Random, str, bool], tuple[str, str]]:
    """Draw how one task asks what holds or does not: bare, with the two labels after it, or with lettered options.

    Returns:
        A function of rng, question and truth that returns the pair.
    """
    yes, no = rng.choice(LABELS[:4] if rng.random() < 0.6 else LABELS)
    kind = rng.random()
    if kind < 0.2:
        ask = question_style(rng, share_open=0.0)
        return lambda r, question, truth: ask(r, question, (yes, no), yes if truth else no)
    tail = "" if kind < 0.6 else rng.choice(_TRUTH_TAILS).format(yes=yes, no=no)
    return lambda r, question, truth: (question + tail, yes if truth else no)


def small_talk(rng: random.Random) -> Callable[[str], str]:
    """Draw words beside the point that stand before a text, after it, or both: the same for every text of a task."""
    before, after = rng.choice(((True, False), (True, False), (False, True), (True, True)))
    joint = rng.choice((" ", " ", "\n", ": ", " - "))
    opening = _sentence_by_chance(rng) + joint if before else ""
    closing = rng.choice((" ", "\n")) + _sentence_by_chance(rng) if after else ""
    return lambda text: opening + text + closing


def _sentence_by_chance(rng: random.Random) -> str:
    """Return common words in no order that means anything, written as a sentence or two are."""
    words = rng.choices(COMMON_WORDS, k=rng.randint(3, 16))
    if len(words) > 6 and rng.random() < 0.5:
        words[rng.randrange(2, len(words) - 2)] += rng.choice((",", ".", ":", ";"))
    text = " ".join(words)
    text = text[0].upper() + text[1:] if rng.random() < 0.8 else text
    return text + rng.choice((".", "?", ":", "", " ..."))
