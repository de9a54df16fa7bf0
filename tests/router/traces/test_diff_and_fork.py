"""Where two traces differ is named by field; a fork with another policy decides from what is stored."""

from __future__ import annotations

import pytest

from policies.fixed import AlwaysArm
from policies.ledger import Ledger
from policies.loo_threshold import LooThreshold
from router.trace_errors import UnknownPolicy
from router.traces import diff, expected_seconds, fork_policy, read_trace
from tests.router.traces.fakes import ADAPTER, keep


def test_traces_differ_in_nothing_but_what_differs_of_itself(ledger: Ledger) -> None:
    one, other = keep(ledger, "trace-1"), keep(ledger, "trace-2")

    assert diff(one, other) == ()
    assert diff(one, one) == ()


def test_a_difference_names_the_field_with_both_values(ledger: Ledger) -> None:
    one = keep(ledger, "trace-1", policy=AlwaysArm("ttt"), adapter=ADAPTER)
    other = keep(ledger, "trace-2", policy=AlwaysArm("icl"))
    found = {each.field: (each.recorded, each.now) for each in diff(one, other)}

    assert found["decision.arm"] == ("ttt", "icl")
    assert found["adapter.losses"] == ("[2.0, 0.5]", "(absent)")
    assert found["adapter"] == ("(absent)", "null")
    assert found["path[4].name"] == ("adapt", "answer_icl")
    assert not any(field.startswith("task.") for field in found)


def test_a_grid_is_one_value(ledger: Ledger) -> None:
    one = keep(ledger, "trace-1")
    (candidate, *rest) = one.answers[0].candidates
    changed = candidate.model_copy(update={"value": ((1, 2), (3, 4))})
    answer = one.answers[0].model_copy(update={"candidates": (changed, *rest)})

    (found,) = diff(one, one.model_copy(update={"answers": (answer,)}))

    assert (found.field, found.now) == ("answers[0].candidates[0].value", "[[1, 2], [3, 4]]")


def test_another_policy_decides_from_the_stored_state_and_writes_nothing(ledger: Ledger) -> None:
    keep(ledger, "trace-1", policy=LooThreshold(epsilon=0.0))
    stored = read_trace(ledger, "trace-1")

    found = fork_policy(stored, "loo_threshold@1:threshold=0.1,sure_at=1.0,epsilon=0.0")

    assert stored.trace.decision.arm == "ttt"
    assert found.decision is not None
    assert found.decision.arm == "icl"
    assert {each.field for each in found.differences} == {"arm", "propensities", "reason", "policy"}
    assert len(ledger.latest(9)) == 1


def test_a_policy_that_nobody_knows_cannot_decide(ledger: Ledger) -> None:
    keep(ledger, "trace-1")

    with pytest.raises(UnknownPolicy, match="Give the policy itself"):
        fork_policy(read_trace(ledger, "trace-1"), "trees@9")


def test_the_price_of_a_fork_is_what_was_predicted(ledger: Ledger) -> None:
    keep(ledger, "trace-1")
    stored = read_trace(ledger, "trace-1")

    assert expected_seconds(stored, "ttt") == 9.0
    assert expected_seconds(stored, "icl_vote") is None
