"""The right answer scores both answers of a solve; a verdict on one says of the other only what follows."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from icl_engine.scripted_model import ScriptedModel
from icl_engine.task import Task
from policies.decision import Decision
from policies.ledger import Ledger
from policies.records import OutcomeRow
from router.errors import OutcomeConflict, RecordRefused
from router.feedback import Audits, outcomes_of_answer, outcomes_of_verdict, say_answer, say_verdict, solutions_of
from router.learning_rows import AUDIT_RATE, ExperienceReader, RowRules, implied_as, known_as
from router.router import Router
from router.settings import Settings
from router.trace import IN_CONTEXT_INSTEAD, TRAINED_INSTEAD, AnswerTrace, CandidateTrace, DecisionTrace, Trace
from tests.router.fakes import grid_task, mirrored, text_task
from tests.router.traces.fakes import row_of, trace_of

RIGHT = ((0, 5, 4),)
Kept = tuple[Ledger, Trace]


@pytest.fixture
def router(folder: Path, tmp_path: Path) -> Iterator[Router]:
    with Router(Settings(home=tmp_path / "home"), model=ScriptedModel(mirrored)) as made:
        yield made


def kinds(router: Router, trace_id: str) -> dict[str, float]:
    with Ledger.open(router.settings.ledger_location) as ledger:
        return {outcome.kind: outcome.value for outcome in ledger.outcomes(trace_id)}


def trace(
    *given: object,
    in_context: tuple[object, ...],
    arm: str = "ttt",
    by: str | None = None,
    task: Task | None = None,
    degraded: tuple[str, ...] = (),
) -> Trace:
    def answers(values: tuple[object, ...]) -> tuple[AnswerTrace, ...]:
        candidates = tuple(CandidateTrace(value=value, n_votes=1, share=1.0, log_probability=0.0) for value in values)
        return (AnswerTrace(candidates=candidates, confidence=1.0),)

    task = task or Task.from_pairs([("a", "A"), ("b", "B")], "c", id="t")
    decision = DecisionTrace.model_construct(arm=arm, propensities={arm: 1.0})  # type: ignore[call-arg]
    return Trace.model_construct(  # type: ignore[call-arg]  # what feedback reads of a trace
        trace_id="t", task=task, answers=answers(given), icl=answers(in_context), answered_by=by or arm,
        decision=decision, degraded=degraded,
    )  # fmt: skip


@pytest.fixture
def ledger_and_trace(tmp_path: Path) -> Iterator[Kept]:
    """A solve answered by `ttt` with "A", where `icl` would have said "B"."""
    decision = Decision("ttt", 0.5, (("icl", 0.5), ("ttt", 0.5)), "drawn", "uniform@1", 0.5)
    answered = trace("A", in_context=("B",))
    update = {"task": answered.task, "answers": answered.answers, "icl": answered.icl}
    with Ledger.open(tmp_path) as ledger:
        ledger.record_decision(row_of(decision, "t"))
        yield ledger, trace_of(decision, "t").model_copy(update=update)


def test_the_right_answer_scores_the_answer_given_and_the_one_in_context(router: Router) -> None:
    first, second = router.solve(grid_task()).trace_id, router.solve(grid_task("flip_2")).trace_id

    router.feedback(first, answer=[[0, 5, 4]])
    router.feedback(second, answer=[((9, 9, 9),)])

    assert kinds(router, first) == {"exact": 1.0, known_as("icl"): 1.0}
    assert kinds(router, second) == {"exact": 0.0, known_as("icl"): 0.0}


def test_with_audits_on_their_rate_is_kept_and_the_work_is_put_off(router: Router) -> None:
    jobs: list[Callable[[], None]] = []
    router.audits = Audits(1.0, jobs.append)
    trace_id = router.solve(grid_task()).trace_id

    router.feedback(trace_id, answer=RIGHT)

    offered = "ttt" in dict(router.decide(grid_task()).propensities)
    assert (AUDIT_RATE in kinds(router, trace_id)) == offered
    assert len(jobs) == offered


def test_an_audit_is_drawn_by_the_trace_at_the_rate_asked_for() -> None:
    audits = Audits(0.05, lambda job: None)
    drawn = [audits.drawn(f"trace-{i}") for i in range(4000)]

    assert sum(drawn) / 4000 == pytest.approx(0.05, abs=0.012)
    assert drawn == [audits.drawn(f"trace-{i}") for i in range(4000)]


@pytest.mark.parametrize(
    ("given", "in_context", "quality", "follows"),
    [
        (("A",), ("A",), 1.0, 1.0),
        (("A",), ("B",), 1.0, 0.0),  # accepted: the other one is not it
        (("A",), ("A",), 0.0, 0.0),
        (("A",), ("B",), 0.0, None),  # rejected: the other one may be right or wrong
        (("A", "C"), ("B",), 1.0, None),  # which of two was accepted is not known
        (("A",), ("B",), 0.5, None),
    ],
)
def test_what_follows_for_the_answer_in_context_is_said_and_nothing_else(
    given: tuple[str, ...], in_context: tuple[str, ...], quality: float, follows: float | None
) -> None:
    found = outcomes_of_verdict(trace(*given, in_context=in_context), quality, source="user")

    expected = () if follows is None else (OutcomeRow("t", "user", implied_as("icl"), follows),)
    assert found == expected
    assert outcomes_of_verdict(trace(*given, in_context=in_context, arm="icl"), quality, source="user") == ()


@pytest.mark.parametrize("arm", ["icl_vote", "zero_shot"])
def test_where_training_had_to_answer_the_arm_that_was_drawn_was_worth_nothing(arm: str) -> None:
    had_to = trace("A", in_context=(), arm=arm, by="ttt", degraded=(TRAINED_INSTEAD,))
    nothing = tuple(OutcomeRow("t", "user", known_as(each), 0.0) for each in ("icl", arm))

    assert outcomes_of_verdict(had_to, 1.0, source="user") == nothing


@pytest.mark.parametrize("quality", [0.0, 1.0])
@pytest.mark.parametrize("arm", ["icl_vote", "zero_shot", "remote"])
def test_where_the_answer_in_context_stood_in_the_arm_that_was_drawn_was_worth_nothing(
    arm: str, quality: float
) -> None:
    stood_in = trace("A", in_context=("A",), arm=arm, by="icl", degraded=(IN_CONTEXT_INSTEAD,))

    of_answer = outcomes_of_answer(stood_in, ("A",), source="user", audits=None)

    assert outcomes_of_verdict(stood_in, quality, source="user") == (
        OutcomeRow("t", "user", known_as(arm), 0.0),
        OutcomeRow("t", "user", implied_as("icl"), quality),
    )
    assert {row.kind: row.value for row in of_answer} == {"exact": 1.0, known_as("icl"): 1.0, known_as(arm): 0.0}


@pytest.mark.parametrize("arm", ["icl", "icl_vote"])
def test_an_answer_that_a_policy_found_too_unsure_may_be_right(arm: str) -> None:
    unsure = trace("A", in_context=("B",), arm=arm, by="ttt", degraded=(f"{arm} was unsure; trained instead",))
    of_answer = outcomes_of_answer(unsure, ("B",), source="user", audits=None)

    assert known_as(arm) not in {row.kind for row in outcomes_of_verdict(unsure, 0.0, source="user")}
    assert of_answer == (OutcomeRow("t", "user", "exact", 0.0), OutcomeRow("t", "user", known_as("icl"), 1.0))


@pytest.mark.parametrize("quality", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("arm", ["icl", "ttt"])
def test_no_answer_in_context_is_known_to_be_wrong_whichever_arm_was_drawn(arm: str, quality: float) -> None:
    empty = trace("A", in_context=(), arm=arm, by="ttt", degraded=(TRAINED_INSTEAD,) if arm == "icl" else ())

    assert outcomes_of_verdict(empty, quality, source="user") == (OutcomeRow("t", "user", known_as("icl"), 0.0),)


def test_what_a_verdict_says_of_an_answer_that_was_not_there_a_right_answer_says_too() -> None:
    two = text_task().model_copy(update={"queries": ("d", "e")})
    half = trace("A", in_context=(), task=two)
    half = half.model_copy(update={"icl": (half.answers[0], half.icl[0]), "answers": half.answers * 2})
    _, of_icl = outcomes_of_answer(half, ("A", None), source="user", audits=None)

    assert outcomes_of_verdict(half, 1.0, source="user") == (of_icl,)
    assert of_icl.value == 0.0


def test_a_second_answer_that_says_otherwise_of_the_one_in_context_is_a_conflict(ledger_and_trace: Kept) -> None:
    ledger, kept = ledger_and_trace
    say = functools.partial(say_answer, ledger, kept, source="user", audits=Audits(0.5, lambda job: None))
    say(("Z",), reason=None)

    say(("Z",), reason=None)
    with pytest.raises(OutcomeConflict, match="exact:icl = 0 from 'user', got 1"):
        say(("B",), reason=None)
    say(("B",), reason="misread")
    assert {each.reported.kind: each.value for each in ledger.effective_outcomes("t")} == {
        "exact": 0.0, known_as("icl"): 1.0, AUDIT_RATE: 0.5,
    }  # fmt: skip


def test_an_audit_rate_that_was_changed_is_no_conflict(ledger_and_trace: Kept) -> None:
    ledger, kept = ledger_and_trace
    for rate in (0.5, 0.1):
        say_answer(ledger, kept, ("A",), source="user", audits=Audits(rate, lambda job: None), reason=None)

    assert {each.reported.kind: each.value for each in ledger.effective_outcomes("t")}[AUDIT_RATE] == 0.5


def test_feedback_says_exactly_one_thing(router: Router) -> None:
    trace_id = router.solve(grid_task()).trace_id

    with pytest.raises(RecordRefused, match="0 of the three"):
        router.feedback(trace_id)
    with pytest.raises(RecordRefused, match="2 of the three"):
        router.feedback(trace_id, True, reward=0.5)
    with pytest.raises(RecordRefused, match="for 1 queries"):
        router.feedback(trace_id, answer=[RIGHT, RIGHT])
    router.feedback(trace_id, reward=0.5)
    assert kinds(router, trace_id) == {"exact": 0.5}


def test_with_a_reason_what_was_said_before_is_corrected_with_all_that_followed_from_it(router: Router) -> None:
    trace_id = router.solve(grid_task()).trace_id
    router.feedback(trace_id, answer=[[9, 9, 9]])

    with pytest.raises(OutcomeConflict, match="reason"):
        router.feedback(trace_id, answer=[[0, 5, 4]])
    router.feedback(trace_id, answer=[[0, 5, 4]], reason="the wrong row")
    router.feedback(trace_id, answer=[[0, 5, 4]], reason="the wrong row")  # the same again changes nothing
    said = {each.reported.kind: each for each in router._parts.ledger.effective_outcomes(trace_id)}
    router.feedback(trace_id, False, reason="no, it was not")
    after = {each.reported.kind: each for each in router._parts.ledger.effective_outcomes(trace_id)}

    assert {kind: each.value for kind, each in said.items()} == {"exact": 1.0, known_as("icl"): 1.0}
    assert [len(each.corrections) for each in said.values()] == [1, 1]
    assert [each.reason for each in after["exact"].corrections] == ["the wrong row", "no, it was not"]
    assert after[known_as("icl")].value == 0.0  # the answer in context is the one that was given
    with pytest.raises(RecordRefused, match="correct_outcome"):
        router.feedback(trace_id, False, kind="style", reason="of one's own")


def test_an_answer_is_one_value_or_one_for_each_query() -> None:
    text, grid = (trace("A", in_context=("A",), task=task) for task in (text_task(), grid_task()))

    assert solutions_of(text, "C") == solutions_of(text, ["C"]) == ("C",)
    for said in (RIGHT, [RIGHT], [[0, 5, 4]], [[[0, 5, 4]]]):
        assert solutions_of(grid, said) == (RIGHT,)  # type: ignore[arg-type]  # as JSON gives it


@pytest.mark.parametrize("answer", [5, True, 0.5, {"a": 1}, {"C"}, [], [5.0], [None], [None, None], [["C"]], "", b"C"])
@pytest.mark.parametrize("task", [text_task(), grid_task()])
def test_what_is_no_answer_to_one_query_is_refused(task: Task, answer: Any) -> None:
    with pytest.raises(RecordRefused, match=r"^answer: .*\. Give ") as refused:
        solutions_of(trace("A", in_context=("A",), task=task), answer)

    assert (refused.value.field, refused.value.task_id) == ("answer", task.id)


@pytest.mark.parametrize("answer", [5, {"a": 1, "b": 2}, "DE", ["D"], ["D", 5], [None, None], [None, {}]])
def test_what_is_no_answer_to_each_of_several_queries_is_refused(answer: Any) -> None:
    two = trace("A", in_context=("A",), task=text_task().model_copy(update={"queries": ("d", "e")}))

    with pytest.raises(RecordRefused, match=r"^answer: "):
        solutions_of(two, answer)
    assert solutions_of(two, ["D", None]) == ("D", None)


def test_of_an_answer_that_knows_of_no_query_nothing_is_written(router: Router) -> None:
    trace_id = router.solve(grid_task()).trace_id

    with pytest.raises(RecordRefused, match="None for every query"):
        router.feedback(trace_id, answer=[None])
    assert kinds(router, trace_id) == {}


@pytest.mark.parametrize(
    ("in_context", "said", "follows"),
    [
        (("A",), (1.0, 0.0), 0.0),  # the same answer: as right as the one given
        (("A",), (1.0, 0.0, 1.0), 1.0),
        (("A",), (0.5, 1.0), 1.0),  # at first nothing followed
        (("A",), (1.0, 0.5), None),
        (("B",), (1.0, 0.0), None),  # another answer: wrong only as long as the one given is right
        (("B",), (1.0, 0.0, 1.0), 0.0),
        (("B",), (1.0, 0.0, 1.0, 0.0, 1.0), 0.0),
        (("B",), (0.0, 1.0), 0.0),
        (("A", "B"), (1.0, 0.0), None),
    ],
)
def test_what_followed_is_corrected_with_the_verdict_it_followed_from(
    tmp_path: Path, in_context: tuple[str, ...], said: tuple[float, ...], follows: float | None
) -> None:
    answered = trace("A", in_context=in_context)
    decision = Decision("ttt", 0.5, (("icl", 0.5), ("ttt", 0.5)), "drawn", "uniform@1", 0.5)
    row = row_of(decision, "t")
    kept = trace_of(decision, "t").model_copy(update={"answers": answered.answers, "icl": answered.icl})
    with Ledger.open(tmp_path) as ledger:
        ledger.record(row, kept.model_dump_json())
        for quality in said:
            say_verdict(ledger, "t", quality, source="user", reason="looked again")
        reader = ExperienceReader(
            ledger, RowRules(arms=("icl", "ttt")), model_fingerprint=None, schema=row.features_schema
        )
        (found,) = reader.read().implied.tolist()

    assert found == pytest.approx(float("nan") if follows is None else follows, nan_ok=True)


def test_whoever_says_otherwise_corrects_what_was_said_however_often(router: Router) -> None:
    trace_id = router.solve(grid_task(), arm="icl").trace_id
    router.flush()

    with Ledger.open(router.settings.ledger_location) as ledger:
        corrected = [
            say_verdict(ledger, trace_id, each, source="user", reason="again") for each in (1.0, 1.0, 0.0, 1.0)
        ]
        (said,) = ledger.effective_outcomes(trace_id)

    assert corrected == [False, False, True, True]
    assert (said.reported.value, said.value) == (1.0, 1.0)
    assert [correction.value for correction in said.corrections] == [0.0, 1.0]
