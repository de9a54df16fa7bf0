"""A stored decision made once more is the same to the bit, or it is said where and why it is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from policies.decision import Decision, Policy
from policies.features import Features
from policies.fixed import AlwaysArm
from policies.ledger import Ledger
from policies.loo_threshold import LooThreshold
from router.trace_errors import UnknownPolicy
from router.traces import policy_named, replay, replay_with
from tests.policies.fakes import features_with
from tests.router.traces.fakes import decided, keep, row_of

SOME = [features_with(tuple(i & bit > 0 for bit in (1, 2, 4)), confidence=i / 11) for i in range(8)]


class Learned:
    """A policy that nobody can make from its name."""

    name, version = "learned", "7"

    def propensities(self, features: Features, arms: tuple[str, ...]) -> tuple[float, ...]:
        return (1.0 / len(arms),) * len(arms)

    def decide(self, features: Features, rng: np.random.Generator, arms: tuple[str, ...]) -> Decision:
        i = int(rng.integers(len(arms)))
        propensities = tuple(zip(arms, self.propensities(features, arms), strict=True))
        return Decision(arms[i], propensities[i][1], propensities, "drawn", "learned@7", 0.5)


def test_stored_decisions_made_once_more_are_the_same(ledger: Ledger) -> None:
    policies: list[Policy] = [
        LooThreshold(epsilon=0.7),
        LooThreshold(0.5, 0.8, 0.3),
        AlwaysArm("icl_vote"),
        AlwaysArm("ttt"),
    ]
    for i in range(32):
        keep(ledger, f"trace-{i}", policy=policies[i % 4], features=SOME[i % 8], seed=i)

    replays = [replay(ledger.decision(f"trace-{i}")) for i in range(32)]

    assert [(each.trace_id, each.differences, each.problem) for each in replays if not each.equal] == []
    assert len({ledger.decision(f"trace-{i}").arm for i in range(32)}) == 3


def test_a_policy_that_is_given_is_replayed_too(ledger: Ledger) -> None:
    for i in range(9):
        keep(ledger, f"trace-{i}", policy=Learned(), seed=i)  # type: ignore[arg-type]
    rows = ledger.latest(9)

    assert len({row.arm for row in rows}) > 1
    assert all(replay(row, given=(Learned(),)).equal for row in rows)  # type: ignore[arg-type]
    assert all(replay(row, loaders=(lambda named: Learned(),)).equal for row in rows)  # type: ignore[arg-type,return-value]


def test_a_policy_that_nobody_knows_is_said_to_be_unknown(ledger: Ledger) -> None:
    keep(ledger, "trace-1", policy=Learned())  # type: ignore[arg-type]

    found = replay(ledger.decision("trace-1"))

    assert (found.equal, found.decision) == (False, None)
    assert "policy 'learned@7' is not known here" in str(found.problem)


def test_what_was_changed_is_named() -> None:
    row = row_of(decided(LooThreshold()), "trace-1")
    propensities = tuple((arm, np.nextafter(p, 1.0)) for arm, p in row.propensities)

    found = replay(replace(row, propensities=propensities, reason="because"))

    assert [each.field for each in found.differences] == ["propensities", "reason"]
    assert not found.equal


def test_features_of_another_schema_are_not_read() -> None:
    row = replace(row_of(decided(LooThreshold()), "trace-1"), features_schema="0123456789abcdef")

    assert "its features are of schema 0123456789abcdef" in str(replay(row).problem)


def test_features_that_are_not_those_of_the_schema_are_not_read() -> None:
    row = replace(row_of(decided(LooThreshold()), "trace-1"), features_json='{"kind": "grid"}')

    assert "not those that the schema names" in str(replay(row).problem)


def test_an_arm_that_the_policy_needs_and_was_not_there_is_said() -> None:
    row = row_of(decided(LooThreshold()), "trace-1")

    assert "arm 'zero_shot' is not available" in str(replay_with(AlwaysArm("zero_shot"), row).problem)


@pytest.mark.parametrize(
    "policy", [LooThreshold(), LooThreshold(0.25, 0.5, 0.125), LooThreshold(1e-17, 1.0, 0.0), AlwaysArm("ttt_short")]
)
def test_a_policy_is_made_again_from_its_name(policy: LooThreshold | AlwaysArm) -> None:
    assert policy_named(f"{policy.name}@{policy.version}") == policy


@pytest.mark.parametrize(
    "named", ["loo_threshold@1", "loo_threshold@1:threshold=2,sure_at=1,epsilon=0", "always_@1", "", "trees@3",
              "loo_threshold@1:threshold=x,sure_at=1,epsilon=0", "learned@1:model=a,price=x,",
              "always_icl_paced@1,budget=(nonsense),at=0.1", "always_icl@1+canary:x:always_ttt@1",
              "bounded_regret@2:scores=(loo_threshold@1:threshold=0.5,sure_at=1.0,epsilon=0.1),bound=a/b,explore=0.1"],
)  # fmt: skip
def test_a_name_that_stands_for_no_policy_is_refused(named: str) -> None:
    def learned(asked: str) -> None:
        """Read the price, as the ledger's loader does."""
        if asked.startswith("learned@"):
            float(asked.partition("price=")[2].partition(",")[0])

    with pytest.raises(UnknownPolicy):
        policy_named(named, loaders=(learned,))
