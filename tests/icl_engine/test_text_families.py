"""Properties every text family keeps: determinism, distinct and telling pairs, plain characters, short tasks."""

import random
import re
from datetime import date
from itertools import islice
from statistics import mean

import pytest

from icl_engine.families.family import Family, Pair
from icl_engine.families.texts import TEXT_FAMILIES
from icl_engine.families.wordings import LABELS
from icl_engine.families.words import FIRST_NAMES, NUMBER_WORDS

PLAIN = re.compile(r"[\n\x20-\x7e]+")
FAMILIES = pytest.mark.parametrize("family", TEXT_FAMILIES, ids=lambda family: family.name)


def _tasks(family: Family, n_tasks: int, n_pairs: int = 6) -> list[list[Pair]]:
    return [family.make(random.Random(seed), n_pairs) for seed in range(n_tasks)]


def _n_chars(pairs: list[Pair]) -> int:
    return sum(len(given) + len(wanted) for given, wanted in pairs)


def _make(name: str, seed: int, n_pairs: int = 6) -> list[tuple[str, str]]:
    family = next(family for family in TEXT_FAMILIES if family.name == name)
    return [(str(given), str(wanted)) for given, wanted in family.make(random.Random(seed), n_pairs)]


def test_there_are_at_least_45_families_with_distinct_names() -> None:
    names = [family.name for family in TEXT_FAMILIES]

    assert len(names) >= 45
    assert len(set(names)) == len(names)
    assert {family.kind for family in TEXT_FAMILIES} == {"text"}


@FAMILIES
def test_same_seed_gives_the_same_task(family: Family) -> None:
    assert _tasks(family, 20) == _tasks(family, 20)


@FAMILIES
def test_seeds_give_different_tasks(family: Family) -> None:
    tasks = {tuple(task) for task in _tasks(family, 30)}

    assert len(tasks) >= 28


@FAMILIES
@pytest.mark.parametrize("n_pairs", [3, 5, 8])
def test_a_task_has_the_asked_number_of_distinct_inputs(family: Family, n_pairs: int) -> None:
    for task in _tasks(family, 20, n_pairs):
        assert len(task) == len(dict(task)) == n_pairs


@FAMILIES
def test_both_sides_are_plain_characters_and_not_empty(family: Family) -> None:
    for given, wanted in (pair for task in _tasks(family, 40) for pair in task):
        assert isinstance(given, str)
        assert isinstance(wanted, str)
        assert PLAIN.fullmatch(given)
        assert PLAIN.fullmatch(wanted)


@FAMILIES
def test_no_task_can_be_answered_by_one_constant_or_by_a_copy(family: Family) -> None:
    for task in _tasks(family, 40):
        assert len({wanted for _, wanted in task}) > 1
        assert 2 * sum(given == wanted for given, wanted in task) <= len(task)


@FAMILIES
def test_tasks_stay_short(family: Family) -> None:
    lengths = [_n_chars(task) for task in _tasks(family, 40)]

    assert mean(lengths) <= 2000  # a row of pretraining holds 1,024: at least the first three pairs of most tasks
    assert max(lengths) <= 4500


def test_tasks_are_below_400_characters_on_average() -> None:
    assert mean(_n_chars(task) for family in TEXT_FAMILIES for task in _tasks(family, 10)) < 400


def _closes(opened: str, rest: str, kinds: tuple[str, ...]) -> bool:
    waiting: list[str] = []
    closing = {kind[0]: kind[1] for kind in kinds}
    for c in opened + rest:
        if c in closing:
            waiting.append(closing[c])
        elif not waiting or waiting.pop() != c:
            return False
    return not waiting


def test_brackets_are_closed_by_the_answer() -> None:
    kinds = ("()", "[]", "{}", "<>")
    pairs = [pair for seed in range(60) for pair in _make("brackets_close", seed)]
    usual = [(given, wanted) for given, wanted in pairs if re.fullmatch(r"[][(){}<> ]+", given)]

    assert usual
    assert all(_closes(given.replace(" ", ""), wanted.replace(" ", ""), kinds) for given, wanted in usual)


def test_a_logical_expression_in_python_spelling_has_the_value_python_gives_it() -> None:
    pairs = [pair for seed in range(200) for pair in _make("logic_value", seed)]
    spelled = [(given, wanted) for given, wanted in pairs if re.fullmatch(r"(True|False|and|or|not|[() ])+", given)]

    assert len(spelled) >= 30
    assert all(str(eval(given)) == wanted for given, wanted in spelled)


def test_a_calculation_has_the_value_python_gives_it() -> None:
    pairs = [pair for seed in range(200) for pair in _make("arithmetic", seed)]
    usual = [(given, wanted) for given, wanted in pairs if re.fullmatch(r"[-+*() 0-9]+", given)]

    assert usual
    assert all(str(eval(given)) == wanted for given, wanted in usual)


def test_logical_expressions_run_from_one_operator_to_eight() -> None:
    pairs = [pair for seed in range(200) for pair in _make("logic_value", seed)]
    n_operators = {len(re.findall(r"\b(?:and|or|not)\b", given)) for given, _ in pairs if "True" in given}

    assert set(range(1, 9)) <= n_operators


def test_the_total_of_all_things_is_the_sum_of_their_numbers() -> None:
    pairs = [pair for seed in range(300) for pair in _make("world_count", seed)]
    all_asked = [(given, wanted) for given, wanted in pairs if "How many things?" in given and wanted.isdigit()]
    number = {"a": 1, "an": 1} | {word: n for n, word in enumerate(NUMBER_WORDS)}

    assert all_asked
    for given, wanted in all_asked:
        listed = re.sub(r"\. .*", "", given).replace(",", " ").split()
        assert sum(int(word) if word.isdigit() else number.get(word, 0) for word in listed) == int(wanted)


def test_swaps_end_as_a_replay_of_them_ends() -> None:
    pairs = [pair for seed in range(500) for pair in _make("world_swaps", seed)]
    told = [(given, wanted) for given, wanted in pairs if "<->" in given]
    n_checked = 0

    for given, wanted in told:
        has = dict(re.findall(r"(\w+)(?:=|: | has the | holds | begins with the )(\w+)[,;.]", given.split("<->")[0]))
        for a, b in re.findall(r"(\w+)<->(\w+)\.", given):
            has[a], has[b] = has[b], has[a]
        if wanted in has.values():  # not a letter of an option
            asked = [word for word in re.findall(r"\w+", given) if word in FIRST_NAMES][-1]
            assert wanted == has[asked]
            n_checked += 1
    assert n_checked > 20


def test_a_walk_told_by_compass_leads_home_if_its_legs_sum_to_nothing() -> None:
    pairs = [pair for seed in range(500) for pair in _make("world_walk_home", seed)]
    walks = [(given, wanted) for given, wanted in pairs if re.search(r"\d [NESW]\b", given) and " then " not in given]
    told = [(given, wanted) for given, wanted in walks if wanted.lower() in ("yes", "no", "true", "false")]

    assert told
    for given, wanted in told:
        legs = re.findall(r"(\d+) ([NESW])", given)
        at = sum(int(n) * {"N": 1j, "S": -1j, "E": 1, "W": -1}[side] for n, side in legs)
        assert (at == 0) == (wanted.lower() in ("yes", "true"))


def test_about_half_of_the_walks_lead_home() -> None:
    wanted = [wanted for seed in range(300) for _, wanted in _make("world_walk_home", seed)]
    truths, untruths = ({label.lower() for label in side} for side in zip(*LABELS, strict=True))
    n_true, n_untrue = (sum(label.lower() in side for label in wanted) for side in (truths, untruths))

    assert 0.4 < n_true / (n_true + n_untrue) < 0.6


def test_sorted_words_are_the_given_words_in_order() -> None:
    pairs = [pair for seed in range(200) for pair in _make("word_sort", seed)]

    assert pairs
    for given, wanted in pairs:
        words = re.split(r"[ ,;<\n]+", wanted)
        assert words in (sorted(words), sorted(words, reverse=True))
        assert set(words) <= set(re.findall(r"\w+", given))


def test_a_date_is_as_many_days_ahead_as_was_asked() -> None:
    pairs = [pair for seed in range(400) for pair in _make("world_days_ahead", seed)]
    iso = re.compile(r"\d{4}-\d\d-\d\d")
    dated = [(given, wanted) for given, wanted in pairs if len(iso.findall(given)) == 1 and iso.fullmatch(wanted)]
    found = [(re.findall(r"(\d+) \w+ (after|be)", given), given, wanted) for given, wanted in dated]
    told = [(words[0], given, wanted) for words, given, wanted in found if words]

    assert told
    for (n, way), given, wanted in told:
        apart = date.fromisoformat(wanted) - date.fromisoformat(iso.findall(given)[0])
        assert apart.days == (int(n) if way == "after" else -int(n))


def test_the_last_of_a_chain_of_claims_is_honest_if_all_words_before_agree_in_parity() -> None:
    pairs = [pair for seed in range(400) for pair in _make("world_claims", seed)]
    told = [(given, wanted.lower()) for given, wanted in pairs if "knight" in given and wanted.lower() in ("yes", "no")]

    assert told
    for given, wanted in told:
        assert (given.count("a knave") % 2 == 0) == (wanted == "yes")


def test_reversing_a_list_twice_gives_its_items_back() -> None:
    pairs = [pair for seed in range(40) for pair in _make("list_reverse", seed)]

    for given, wanted in islice(pairs, 200):
        items, turned = (re.findall(r"[a-z0-9]+", side.replace(" and ", " ")) for side in (given, wanted))
        assert items == turned[::-1]


def test_sorted_numbers_are_the_given_numbers() -> None:
    for given, wanted in (pair for seed in range(40) for pair in _make("list_sort_numbers", seed)):
        numbers, ordered = ([int(x) for x in re.findall(r"\d+", side)] for side in (given, wanted))
        assert sorted(numbers) in (ordered, ordered[::-1])
