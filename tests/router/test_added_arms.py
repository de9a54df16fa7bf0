"""Arms that are not built in: handed in or installed, chosen like any other, and where they fail the answer in context
stands.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from icl_engine.answer import Answer
from icl_engine.errors import FewShotError
from icl_engine.scripted_model import ScriptedModel
from icl_engine.task import Task
from policies.ledger import Ledger
from policies.loo_threshold import LooThreshold
from router.doctor import examine
from router.errors import ArmUnavailable, SettingsError
from router.router import Router
from router.settings import Settings
from router.traces.stored import read_trace
from router.traces.why import predicted_seconds
from tests.router.serve.serving import serving, text

TEXT = Task.from_pairs([("a", "A"), ("b", "B"), ("c", "C")], "d")
TWO = Task.from_pairs([("a", "A"), ("b", "B"), ("c", "C")], ["d", "e"])
GRID = Task.from_pairs([([[1]], [[2]]), ([[2]], [[3]]), ([[3]], [[4]])], [[4]])


class Upper:
    """Answers texts, and remembers whether it was closed."""

    expected_s = 0.5
    kinds: Sequence[str] = ("text",)

    def __init__(self, say: Callable[[Task], object] | None = None) -> None:
        self.say = say or (lambda task: [Answer.of(str(query).upper(), confidence=0.75) for query in task.queries])
        self.closed = 0

    def answer(self, task: Task, *, deadline: float | None) -> Sequence[Answer]:
        return self.say(task)  # type: ignore[return-value]  # some of them lie

    def close(self) -> None:
        self.closed += 1


def model() -> ScriptedModel:
    """One that has understood nothing."""
    return ScriptedModel(lambda task: "?" if task.kind == "text" else ((0,),))


def test_an_arm_that_is_handed_in_answers_and_the_trace_names_it(folder: Path, tmp_path: Path) -> None:
    with Router(Settings(home=tmp_path), model=model(), arms={"upper": Upper()}) as router:
        solution = router.solve(TWO, arm="upper")
        said = router.explain(solution.trace_id)
    with Ledger.open(router.settings.ledger_location) as ledger:
        trace = read_trace(ledger, solution.trace_id).trace

    assert [answer.value for answer in solution.answers] == ["D", "E"]
    assert (solution.arm, solution.answered_by, solution.degraded) == ("upper", "upper", ())
    assert [answer.confidence for answer in solution.answers] == [0.75, 0.75]
    drawn = {"icl": 0.0, "icl_vote": 0.0, "upper": 1.0}
    assert (trace.decision.propensities, trace.answered_by) == (drawn, "upper")
    assert f"Task {TWO.id}: upper, confidence 0.75, 0.75" in said


def test_a_policy_draws_it_like_any_arm_and_knows_what_it_is_expected_to_take(folder: Path, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, arms=("icl",))
    with Router(settings, model=model(), policy=LooThreshold(epsilon=1.0), arms={"upper": Upper()}) as router:
        solutions = [router.solve(TEXT, seed=seed) for seed in range(12)]
        router.flush()
        with Ledger.open(router.settings.ledger_location) as ledger:
            stored = read_trace(ledger, solutions[0].trace_id)

    assert {(solution.arm, solution.answer) for solution in solutions} == {("icl", "?"), ("upper", "D")}
    assert all(0 < solution.propensity < 1 for solution in solutions)
    assert predicted_seconds(stored.trace.decision)["upper"] == 0.5


def test_it_is_offered_only_tasks_of_its_kinds(folder: Path, tmp_path: Path) -> None:
    with Router(Settings(home=tmp_path), model=model(), arms={"upper": Upper()}) as router:
        offered = [dict(router.decide(task).propensities) for task in (TEXT, GRID)]

        with pytest.raises(ArmUnavailable, match="upper"):
            router.solve(GRID, arm="upper")

    assert ["upper" in arms for arms in offered] == [True, False]


def fails(error: Exception) -> Callable[[Task], object]:
    def say(task: Task) -> object:
        raise error

    return say


@pytest.mark.parametrize(
    ("say", "reason"),
    [
        (fails(ZeroDivisionError("by zero")), "the arm upper failed (ZeroDivisionError: by zero); answered in context"),
        (fails(FewShotError("It ran out of programs.")), "It ran out of programs. Answered in context"),
        (lambda task: [], "the arm upper gave 0 answers to 1 queries. Answered in context"),
        (lambda task: None, "the arm upper gave something other than answers. Answered in context"),
        (lambda task: ["D"], "the arm upper gave something other than answers. Answered in context"),
        (
            lambda task: [Answer.of("D", confidence=math.nan)],
            "the arm upper gave a confidence of nan, which is not in 0 to 1. Answered in context",
        ),
        (
            lambda task: [Answer.of(((1,),), confidence=1.0)],
            "the arm upper answered a task of kind text with another kind. Answered in context",
        ),
        (
            lambda task: [Answer.of("D", confidence=1.0, tokens=-1)],
            "the arm upper counted -1 tokens. Answered in context",
        ),
    ],
)
def test_what_goes_wrong_in_it_ends_in_the_answer_in_context(
    say: Callable[[Task], object], reason: str, folder: Path, tmp_path: Path
) -> None:
    with Router(Settings(home=tmp_path), model=model(), arms={"upper": Upper(say)}) as router:
        solution = router.solve(TEXT, arm="upper")

    assert (solution.answer, solution.answered_by, solution.degraded) == ("?", "icl", (reason,))


def test_a_value_that_is_none_is_told_of(folder: Path, tmp_path: Path) -> None:
    ragged = Upper(lambda task: [Answer.of(((1, 2), (3,)), confidence=1.0)])
    ragged.kinds = ("grid",)

    with Router(Settings(home=tmp_path), model=model(), arms={"upper": ragged}) as router:
        solution = router.solve(GRID, arm="upper")

    assert (solution.answer, solution.answered_by) == (((0,),), "icl")
    assert solution.degraded[0].startswith("the arm upper gave no value")


def test_grids_as_lists_are_as_good_as_tuples(folder: Path, tmp_path: Path) -> None:
    listed = Upper(lambda task: [Answer.of([[5]], confidence=1.0)])  # type: ignore[arg-type]
    listed.kinds = ("grid", "text")

    with Router(Settings(home=tmp_path), model=model(), arms={"listed": listed}) as router:
        assert router.solve(GRID, arm="listed").answer == ((5,),)


def test_where_it_finds_nothing_the_answer_in_context_stands_and_it_is_said(folder: Path, tmp_path: Path) -> None:
    nothing = Upper(lambda task: [Answer.of(confidence=0.0)])

    with Router(Settings(home=tmp_path), model=model(), arms={"upper": nothing}) as router:
        solution = router.solve(TEXT, arm="upper")

    assert (solution.answer, solution.answered_by) == ("?", "icl")
    assert len(solution.degraded) == 1


def test_of_more_than_two_candidates_the_first_two_count(folder: Path, tmp_path: Path) -> None:
    many = Upper(lambda task: [Answer.of("D", "E", "F", confidence=0.5)])

    with Router(Settings(home=tmp_path), model=model(), arms={"upper": many}) as router:
        assert router.solve(TEXT, arm="upper").answers[0].values == ("D", "E")


@pytest.mark.parametrize("name", ["icl", "ttt", "Upper", "two words", ""])
def test_a_name_that_cannot_be_an_added_arm_s_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot name an added arm"):
        Router(Settings(home=tmp_path), model=model(), arms={name: Upper()})


@pytest.mark.parametrize(
    ("expected_s", "kinds"), [(0.0, ("text",)), (math.inf, ("text",)), (1.0, ("sound",)), (1.0, ())]
)
def test_one_that_does_not_say_what_it_takes_or_answers_is_refused(
    expected_s: float, kinds: Sequence[str], tmp_path: Path
) -> None:
    arm = Upper()
    arm.expected_s, arm.kinds = expected_s, kinds

    with pytest.raises(SettingsError, match="arm upper"):
        Router(Settings(home=tmp_path), model=model(), arms={"upper": arm})


def test_what_was_handed_in_is_its_owner_s_to_close_and_tenants_share_it(folder: Path, tmp_path: Path) -> None:
    arm = Upper()
    with Router(Settings(home=tmp_path), model=model(), arms={"upper": arm}) as router:
        with router.for_tenant("others") as theirs:
            assert theirs.solve(TEXT, arm="upper").answer == "D"
        assert router.solve(TEXT, arm="upper").answer == "D"

    assert arm.closed == 0


def test_none_can_be_handed_to_workers_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="arms: an object of this process"):
        Router(Settings(home=tmp_path, executor="processes"), arms={"upper": Upper()})


# of installed packages

MODULE = """
from router import Answer

MADE = []


class Upper:
    expected_s = 0.25
    kinds = ("text",)

    def __init__(self, settings):
        self.home, self.closed = settings.home, 0
        MADE.append(self)

    def answer(self, task, *, deadline):
        return [Answer.of(query.upper(), confidence=1.0) for query in task.queries]

    def close(self):
        self.closed += 1


def broken(settings):
    raise OSError("no licence")
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Install a package with entry points, as far as Python is concerned."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "some_arms.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(site))

    def installed(package: str, **arms: str) -> None:
        folder = site / f"{package}-1.2.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
        lines = [f"{name} = {made_by}" for name, made_by in arms.items()]
        (folder / "entry_points.txt").write_text("\n".join(["[ttt_router.arms]", *lines]))

    yield installed
    sys.modules.pop("some_arms", None)


def test_an_installed_arm_is_had_by_its_name_and_closed_with_the_router(
    install: Callable[..., None], folder: Path, tmp_path: Path
) -> None:
    install("some-arms", upper="some_arms:Upper")

    with Router(Settings(home=tmp_path, arms=("icl", "upper")), model=model()) as router:
        assert router.solve(TEXT, arm="upper").answer == "D"
        (made,) = sys.modules["some_arms"].MADE
        assert (made.home, made.closed) == (tmp_path, 0)

    assert made.closed == 1


def test_one_that_the_settings_do_not_name_is_made_only_when_it_is_asked_for(
    install: Callable[..., None], folder: Path, tmp_path: Path
) -> None:
    install("some-arms", upper="some_arms:Upper")

    with Router(Settings(home=tmp_path), model=model()) as router:
        router.solve(TEXT)
        assert "some_arms" not in sys.modules
        assert router.solve(TEXT, arm="upper").answer == "D"


def test_an_arm_that_nobody_has_is_refused_and_the_message_says_which_there_are(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="arms") as refused:
        Settings(home=tmp_path, arms=("icl", "upper"))

    assert "icl_vote" in str(refused.value)
    assert "those of installed packages" in str(refused.value)
    with Router(Settings(home=tmp_path), model=model()) as router, pytest.raises(ArmUnavailable, match="'upper'"):
        router.solve(TEXT, arm="upper")


def test_a_broken_package_is_named_before_anything_is_solved(
    install: Callable[..., None], folder: Path, tmp_path: Path
) -> None:
    install("some-arms", upper="some_arms:broken", lost="some_arms:nowhere")

    for name, reason in (("upper", "OSError: no licence"), ("lost", "AttributeError")):
        with Router(Settings(home=tmp_path, arms=("icl", name)), model=model()) as router:
            with pytest.raises(SettingsError) as refused:
                router.solve(TEXT)
            assert f"arm {name}: cannot be made ({reason}" in str(refused.value)
            assert "some-arms 1.2" in refused.value.remedy


def test_an_arm_that_two_packages_name_is_refused(install: Callable[..., None], folder: Path, tmp_path: Path) -> None:
    install("some-arms", upper="some_arms:Upper")
    install("other-arms", upper="some_arms:Upper")

    said = r"named by other-arms 1\.2 and by some-arms 1\.2"
    settings = Settings(home=tmp_path, arms=("icl", "upper"))
    with Router(settings, model=model()) as router, pytest.raises(SettingsError, match=said):
        router.solve(TEXT)


def test_the_doctor_makes_those_that_are_named(install: Callable[..., None], tmp_path: Path) -> None:
    install("some-arms", upper="some_arms:Upper", poor="some_arms:broken")

    def found(*arms: str) -> tuple[str, str]:
        settings = Settings(home=tmp_path, arms=("icl", *arms))
        finding = next(each for each in examine(settings) if each.check == "arms")
        return finding.state, finding.found

    assert found() == ("unset", "none of installed packages are named in TTT_ROUTER_ARMS")
    assert found("upper") == ("ok", "upper for text")
    assert found("poor") == ("failed", "arm poor: cannot be made (OSError: no licence)")


def test_over_http_those_that_the_settings_name_may_be_asked_for_and_no_others(
    install: Callable[..., None], tmp_path: Path
) -> None:
    install("some-arms", upper="some_arms:Upper", poor="some_arms:broken")

    with serving(tmp_path / "home", arms=("icl", "upper")) as running, running.client() as client:
        solved = client.post("/v1/solve", json={"tasks": [text()], "arm": "upper"})
        listed = client.get("/v1/traces?arm=upper")
        refused = client.post("/v1/solve", json={"tasks": [text()], "arm": "poor"})

    assert solved.json()["results"][0]["solution"]["answered_by"] == "upper"
    assert len(listed.json()["traces"]) == 1
    assert (refused.status_code, refused.json()["code"]) == (422, "arm_unavailable")


def test_of_tasks_that_are_solved_together_each_is_charged_its_own_answer(folder: Path, tmp_path: Path) -> None:

    def later(task: Task) -> object:
        time.sleep(0.3)
        return [Answer.of("D", confidence=1.0)]

    slow = Upper(later)
    with Router(Settings(home=tmp_path), model=model(), arms={"upper": slow}) as router:
        solutions = router.solve_many([TEXT, TWO.for_query(1)], arm="upper")

    assert [solution.answered_by for solution in solutions] == ["upper", "upper"]
    assert all(solution.cost.seconds >= 0.3 for solution in solutions)
