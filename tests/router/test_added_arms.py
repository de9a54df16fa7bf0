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
from router.trace import IN_CONTEXT_INSTEAD, LATE
from router.traces.stored import read_trace
from router.traces.why import predicted_seconds
from tests.models import save_tiny_llama
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
        expected = predicted(router, "upper")
        solutions = [router.solve(TEXT, seed=seed) for seed in range(12)]

    assert {(solution.arm, solution.answer) for solution in solutions} == {("icl", "?"), ("upper", "D")}
    assert all(0 < solution.propensity < 1 for solution in solutions)
    assert expected == [0.5]


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
        (fails(ZeroDivisionError("by zero")), "the arm upper failed (ZeroDivisionError: by zero)"),
        (fails(FewShotError("It ran out of programs.")), "It ran out of programs."),
        (lambda task: [], "the arm upper gave 0 answers to 1 queries."),
        (lambda task: None, "the arm upper gave something other than answers."),
        (lambda task: ["D"], "the arm upper gave something other than answers."),
        (lambda task: [Answer.of(((1,),), confidence=1.0)], "the arm upper gave another kind of value than text."),
        (
            lambda task: [Answer((), "sure", 0)],  # type: ignore[arg-type]
            "the arm upper gave a confidence or tokens that are no numbers.",
        ),
        (
            lambda task: [Answer((), math.nan, 0)],
            "the arm upper gave a confidence of nan (0 to 1) and 0 tokens (0 or more).",
        ),
        (
            lambda task: [Answer.of("D", confidence=1.0, tokens=-1)],
            "the arm upper gave a confidence of 1.0 (0 to 1) and -1 tokens (0 or more).",
        ),
    ],
)
def test_what_goes_wrong_in_it_ends_in_the_answer_in_context(
    say: Callable[[Task], object], reason: str, folder: Path, tmp_path: Path
) -> None:
    with Router(Settings(home=tmp_path), model=model(), arms={"upper": Upper(say)}) as router:
        solution = router.solve(TEXT, arm="upper")

    assert (solution.answer, solution.answered_by) == ("?", "icl")
    assert solution.degraded == (reason, IN_CONTEXT_INSTEAD)


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

    assert (solution.answer, solution.answered_by, solution.degraded) == ("?", "icl", (IN_CONTEXT_INSTEAD,))


@pytest.mark.parametrize("say", [fails(FewShotError("No.")), lambda task: [Answer.of(confidence=0.0)]])
def test_to_raise_and_to_find_nothing_count_alike_for_the_arm_and_not_for_who_stood_in(
    say: Callable[[Task], object], folder: Path, tmp_path: Path
) -> None:
    understood = ScriptedModel(lambda task: str(task.query).upper())
    with Router(Settings(home=tmp_path), model=understood, arms={"upper": Upper(say)}) as router:
        solution = router.solve(TEXT, arm="upper")
        router.feedback(solution.trace_id, answer="D")
    with Ledger.open(router.settings.ledger_location) as ledger:
        outcomes = {each.reported.kind: each.value for each in read_trace(ledger, solution.trace_id).outcomes}

    assert (solution.answer, outcomes["exact:icl"], outcomes["exact:upper"]) == ("D", 1.0, 0.0)


def test_what_it_takes_is_measured_where_it_finds_nothing_too(folder: Path, tmp_path: Path) -> None:
    def search(task: Task) -> object:
        time.sleep(0.1)
        return [Answer.of(confidence=0.0)]

    arm = Upper(search)
    arm.expected_s = 20.0
    with Router(Settings(home=tmp_path), model=model(), arms={"upper": arm}) as router:
        for _ in range(3):
            router.solve(TEXT, arm="upper")
        (expected,) = predicted(router, "upper")

    assert expected < 12.0  # a fifth nearer to what it took each time


def test_what_it_takes_is_measured_where_it_comes_late_too(folder: Path, tmp_path: Path) -> None:
    def late(task: Task) -> object:
        time.sleep(0.4)
        return [Answer.of("D", confidence=1.0)]

    arm = Upper(late)
    arm.expected_s = 0.01
    with Router(Settings(home=tmp_path), model=model(), arms={"upper": arm}) as router:
        for _ in range(3):
            assert router.solve(TEXT, arm="upper", deadline_s=0.2).degraded == (LATE,)
        (expected,) = predicted(router, "upper")

    assert expected > 0.1


def test_one_that_fails_is_not_taken_for_quick(folder: Path, tmp_path: Path) -> None:
    arm = Upper(fails(FewShotError("No.")))
    with Router(Settings(home=tmp_path), model=model(), arms={"upper": arm}) as router:
        router.solve(TEXT, arm="upper")
        assert predicted(router, "upper") == [0.5]


def predicted(router: Router, arm: str) -> list[float]:
    """Return what the next solve expects an arm to take."""
    solution = router.solve(TEXT, arm="icl")
    router.flush()
    with Ledger.open(router.settings.ledger_location) as ledger:
        return [predicted_seconds(read_trace(ledger, solution.trace_id).trace.decision)[arm]]


def test_after_the_deadline_it_is_not_called_and_one_that_comes_late_is_told_of(folder: Path, tmp_path: Path) -> None:
    def late(task: Task) -> object:
        time.sleep(0.4)
        return [Answer.of("D", confidence=1.0)]

    def slow(task: Task) -> str:
        time.sleep(0.05)
        return "?"

    with Router(Settings(home=tmp_path), model=ScriptedModel(slow), arms={"upper": Upper(late)}) as router:
        after = router.solve(TEXT, arm="upper", deadline_s=0.01)
        beyond = router.solve(TEXT, arm="upper", deadline_s=0.3)

    assert (after.answer, after.degraded) == ("?", ("deadline reached before upper began; answered in context",))
    assert (beyond.answer, beyond.degraded) == ("D", ("answered after the deadline",))


def test_of_more_than_two_candidates_the_first_two_count(folder: Path, tmp_path: Path) -> None:
    many = Upper(lambda task: [Answer.of("D", "E", "F", confidence=0.5)])

    with Router(Settings(home=tmp_path), model=model(), arms={"upper": many}) as router:
        assert router.solve(TEXT, arm="upper").answers[0].values == ("D", "E")


@pytest.mark.parametrize("name", ["icl", "ttt", "remote", "Upper", "two words", "", "line\n"])
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


def test_what_it_says_of_itself_is_read_once(folder: Path, tmp_path: Path) -> None:
    arm = Upper()
    arm.expected_s, arm.kinds = "0.5", iter(["text"])  # type: ignore[assignment]

    with Router(Settings(home=tmp_path), model=model(), arms={"upper": arm}) as router:
        assert [router.solve(TEXT, arm="upper").answer for _ in range(2)] == ["D", "D"]
        with router.for_tenant("others") as theirs:
            assert theirs.solve(TEXT, arm="upper").answer == "D"


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


def refusing(settings):
    from router.errors import FewShotError

    raise FewShotError("no")


def endless(settings):
    arm = Upper(settings)
    arm.expected_s = float("inf")
    return arm


def telling(settings):
    raise OSError(f"login failed for {settings.remote_api_key}")
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
        router.close()

    assert made.closed == 1


def test_one_that_says_of_itself_what_will_not_do_is_closed(
    install: Callable[..., None], folder: Path, tmp_path: Path
) -> None:
    install("some-arms", upper="some_arms:endless")

    with Router(Settings(home=tmp_path, arms=("icl", "upper")), model=model()) as router:
        with pytest.raises(SettingsError, match="arm upper: expects inf seconds"):
            router.solve(TEXT)
        assert [made.closed for made in sys.modules["some_arms"].MADE] == [1]


def test_being_installed_does_nothing(install: Callable[..., None], folder: Path, tmp_path: Path) -> None:
    install("some-arms", upper="some_arms:Upper")

    with Router(Settings(home=tmp_path), model=model()) as router, pytest.raises(ArmUnavailable, match="'upper'"):
        router.solve(TEXT, arm="upper")

    assert "some_arms" not in sys.modules


def test_an_arm_that_nobody_has_is_refused_and_the_message_says_which_there_are(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="arms") as refused:
        Settings(home=tmp_path, arms=("icl", "upper"))

    assert "Nothing here has 'upper'." in str(refused.value)
    assert "icl_vote" in str(refused.value)
    assert "those of installed packages" in str(refused.value)
    with Router(Settings(home=tmp_path), model=model()) as router, pytest.raises(ArmUnavailable, match="'upper'"):
        router.solve(TEXT, arm="upper")


def test_a_broken_package_is_named_before_anything_is_solved(
    install: Callable[..., None], folder: Path, tmp_path: Path
) -> None:
    install("some-arms", upper="some_arms:broken", lost="some_arms:nowhere", typed="some_arms:refusing")

    for name, reason in (("upper", "OSError: no licence"), ("lost", "AttributeError"), ("typed", "FewShotError: no")):
        with Router(Settings(home=tmp_path, arms=("icl", name)), model=model()) as router:
            with pytest.raises(SettingsError) as refused:
                router.solve(TEXT)
            assert f"arm {name}: cannot be made ({reason}" in str(refused.value)
            assert "some-arms 1.2" in refused.value.remedy


def test_a_package_that_was_there_when_the_settings_were_made_and_is_not_where_they_are_used_is_missed(
    install: Callable[..., None], folder: Path, tmp_path: Path
) -> None:
    install("some-arms", upper="some_arms:Upper")
    settings = Settings(home=tmp_path, arms=("icl", "upper"))
    (tmp_path / "site" / "some-arms-1.2.dist-info" / "entry_points.txt").unlink()

    with (
        Router(settings, model=model()) as router,
        pytest.raises(SettingsError, match="arm upper: no installed package"),
    ):
        router.solve(TEXT)


def test_a_package_that_tells_a_secret_is_not_repeated(install: Callable[..., None], tmp_path: Path) -> None:
    install("some-arms", upper="some_arms:telling")
    settings = Settings(home=tmp_path, arms=("icl", "upper"), remote_api_key="k3y-of-ours-and-nobody-else-s")
    finding = next(each for each in examine(settings) if each.check == "arms")
    with Router(settings, model=model()) as router, pytest.raises(SettingsError) as refused:
        router.solve(TEXT)

    assert "login failed for" in finding.found
    assert "k3y" not in f"{finding}{refused.value}"


def test_an_arm_that_two_packages_name_is_refused(install: Callable[..., None], folder: Path, tmp_path: Path) -> None:
    install("some-arms", upper="some_arms:Upper")
    install("other-arms", upper="some_arms:Upper")

    said = r"arm upper: other-arms 1\.2 and some-arms 1\.2 have it"
    settings = Settings(home=tmp_path, arms=("icl", "upper"))
    with Router(settings, model=model()) as router, pytest.raises(SettingsError, match=said):
        router.solve(TEXT)


def test_the_doctor_makes_those_that_are_named(install: Callable[..., None], tmp_path: Path) -> None:
    install("some-arms", upper="some_arms:Upper", poor="some_arms:broken")

    def found(*arms: str) -> tuple[str, str]:
        settings = Settings(home=tmp_path, arms=("icl", *arms))
        finding = next(each for each in examine(settings) if each.check == "arms")
        return finding.state, finding.found

    assert found() == ("unset", "none from installed packages; TTT_ROUTER_ARMS names those to use")
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
        time.sleep(1.0)
        return [Answer.of("D", confidence=1.0)]

    unlike = Task.from_pairs([("x", "X"), ("y", "Y"), ("z", "Z")], "d")
    with Router(Settings(home=tmp_path), model=model(), arms={"upper": Upper(later)}) as router:
        solutions = router.solve_many([TEXT, unlike], arm="upper")

    assert [solution.answered_by for solution in solutions] == ["upper", "upper"]
    assert all(1.0 <= solution.cost.seconds < 1.9 for solution in solutions)


def test_a_worker_process_makes_the_arms_that_are_named(
    install: Callable[..., None], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("some-arms", upper="some_arms:Upper")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}:{Path(__file__).parents[2]}")
    saved = str(save_tiny_llama(tmp_path / "model"))
    home, executor = tmp_path / "home", "processes?workers=1"
    settings = Settings(home=home, model=saved, device="cpu", arms=("icl", "upper"), executor=executor)

    with Router(settings) as router:
        solution = router.solve(TEXT, arm="upper")

    assert (solution.answer, solution.answered_by) == ("D", "upper")
