"""The record of one solve: what was asked, found, decided, done and spent. Written once, never changed; JSON in the
ledger.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict

from icl_engine.task import Limits, Task, Value

if TYPE_CHECKING:
    from icl_engine.answer import Answer
    from icl_engine.probe import ProbeResult
    from policies.decision import Decision
    from policies.features import Features
    from policies.records import EffectiveOutcome
    from policies.trace_log import TraceFacts
    from router.solution import Cost

SCHEMA_VERSION = 2  # 1 had no grounds of a decision, no time, no tenant; its documents are read as they are
# in `degraded`; feedback goes by the first two
TRAINED_INSTEAD = "no answer in context; trained instead"
IN_CONTEXT_INSTEAD = "the arm that was drawn gave no answer; answered in context"
LATE = "answered after the deadline"
NONE_AFTER_TRAINING = "no view gave an answer after training; answered in context"
_NO_LIMITS = Limits(*[sys.maxsize] * len(fields(Limits)))


class _Record(BaseModel):
    # a broken model gives NaN and infinities: as strings they are valid JSON and can be read back
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class Step(_Record):
    """One node of the graph on the way."""

    name: str
    seconds: float


class CandidateTrace(_Record):
    """One candidate of an answer."""

    value: Value
    n_votes: int
    share: float
    log_probability: float | None  # None: a repaired grid that no view gave


class AnswerTrace(_Record):
    """One answer, as given or as it would have been given in context."""

    candidates: tuple[CandidateTrace, ...]
    confidence: float


class ArmEstimate(_Record):
    """What the policy expected of one arm."""

    p_correct: float | None = None  # calibrated, in [0, 1]
    gain: float | None = None  # expected quality minus that of `icl`
    gain_std: float | None = None  # standard error of the gain
    predicted_cost_s: float | None = None
    cost: float | None = None  # beyond the answer in context, in the unit that `price` is of: mean costs of `ttt`
    utility: float | None = None  # expected quality minus `price` times cost


class ContributionTrace(_Record):
    """What one feature adds to the expected gain of `contributions_arm`."""

    feature: str
    value: float | None
    typical: float  # mean of the tasks the model was fitted on
    gain: float


class NearestTask(_Record):
    """A past task whose features are close to this one's."""

    task_id: str
    distance: float
    best_arm: str
    gain: float  # of its best arm over `icl`


class DecisionGrounds(_Record):
    """What a policy that estimates can say of its decision; a rule leaves all of it empty."""

    wish: str | None = None  # a budget or a bound that is kept to
    estimates: dict[str, ArmEstimate] = {}
    contributions: tuple[ContributionTrace, ...] = ()  # largest first
    contributions_arm: str | None = None  # the arm whose gain they add up to
    nearest: tuple[NearestTask, ...] = ()  # closest first
    price: float | None = None  # quality per unit of cost at which it was decided
    flip_price: float | None = None  # where another arm would have been the best; None: at no price
    percentiles: dict[str, float] = {}  # feature -> share of training tasks below its value
    stage: str | None = None  # "prior", "logistic", "trees", ...: how much the policy has learned


class DecisionTrace(DecisionGrounds):
    """The decision and what it rests on."""

    arm: str
    propensity: float
    propensities: dict[str, float]
    reason: str
    policy: str
    difficulty: float
    features: dict[str, Any]

    @property
    def favourite(self) -> str:
        """The arm that was likeliest to be drawn."""
        return max(self.propensities, key=lambda arm: self.propensities[arm], default=self.arm)

    @property
    def explored(self) -> bool:
        """Whether the arm was drawn although another was likelier."""
        return self.propensity < self.propensities.get(self.favourite, 0.0)


class AdapterTrace(_Record):
    """The adapter used."""

    key: str
    cached: bool
    losses: tuple[float, ...]  # nats per token, each training step
    train_seconds: float
    verdict: str = ""  # of training on itself: "learned", "gave up" or "worse"; "" where it did not look
    parents: tuple[str, ...] = ()  # keys of the adapters that training began with, nearest first
    tasks: int = 1  # on whose demonstrations it was trained
    lora: dict[str, Any] = {}  # its shape: rank, alpha, the layers it adapts
    adapter_bytes: int | None = None  # of its tensors


class CostTrace(_Record):
    """What the solve took."""

    seconds: float
    gpu_seconds: float
    tokens: int


class Trace(_Record):
    """One solve."""

    schema_version: int = SCHEMA_VERSION
    trace_id: str
    created_at: str | None = None  # UTC, ISO 8601; None in version 1, where the ledger's decision has it
    tenant: str = "default"
    task: Task
    model_fingerprint: str
    seed: int
    icl: tuple[AnswerTrace, ...]  # what the probe answered, per query
    loo_exact: tuple[bool, ...]
    loo_nll: tuple[float, ...]  # nats per token
    decision: DecisionTrace
    answers: tuple[AnswerTrace, ...]
    answered_by: str
    adapter: AdapterTrace | None
    cost: CostTrace
    degraded: tuple[str, ...]
    path: tuple[Step, ...]

    @classmethod
    def of(
        cls,
        *,
        trace_id: str,
        task: Task,
        model_fingerprint: str,
        seed: int,
        probe: ProbeResult,
        features: Features,
        decision: Decision,
        answers: tuple[Answer, ...],
        answered_by: str,
        adapter: AdapterTrace | None,
        cost: Cost,
        degraded: tuple[str, ...],
        path: tuple[Step, ...],
        grounds: DecisionGrounds | None = None,
        created_at: str | None = None,
        tenant: str = "default",
    ) -> Self:
        """Put together the trace from the records of the steps."""
        return cls(
            trace_id=trace_id,
            created_at=created_at,
            tenant=tenant,
            task=task,
            model_fingerprint=model_fingerprint,
            seed=seed,
            icl=tuple(map(_answer_trace, probe.answers)),
            loo_exact=probe.loo_exact,
            loo_nll=probe.loo_nll,
            decision=DecisionTrace(
                arm=decision.arm,
                propensity=decision.propensity,
                propensities=dict(decision.propensities),
                reason=decision.reason,
                policy=decision.policy,
                difficulty=decision.difficulty,
                features=features.as_dict(),
                **({} if grounds is None else grounds.model_dump()),
            ),
            answers=tuple(map(_answer_trace, answers)),
            answered_by=answered_by,
            adapter=adapter,
            cost=CostTrace(**asdict(cost)),
            degraded=degraded,
            path=path,
        )

    @classmethod
    def read(cls, document: str) -> Self:
        """Read a trace as the ledger holds it, of this version or an older one. Limits do not apply: its task was let
        in once.
        """
        return cls.model_validate_json(document, context={"limits": _NO_LIMITS})

    def redacted(self, redact: Callable[[str], str]) -> Self:
        """Return the trace with every text that is neither the user's nor an id changed by `redact`."""
        decision = self.decision.model_copy(update={"reason": redact(self.decision.reason)})
        return self.model_copy(update={"decision": decision, "degraded": tuple(map(redact, self.degraded))})

    def with_grounds(self, grounds: DecisionGrounds) -> Self:
        """Return the trace with what its decision rests on."""
        known = {name: getattr(grounds, name) for name in DecisionGrounds.model_fields}
        return self.model_copy(update={"decision": self.decision.model_copy(update=known)})

    def facts(self) -> TraceFacts:
        """Return what a list shows beside the decision."""
        from policies.trace_log import TraceFacts  # SQLAlchemy is a good part of a second's import

        utilities = [each.utility for each in self.decision.estimates.values() if each.utility is not None]
        chosen = self.decision.estimates.get(self.decision.arm)
        ours = None if chosen is None else chosen.utility
        confidence = self.answers[0].confidence if self.answers else None
        return TraceFacts(
            answered_by=self.answered_by,
            confidence=confidence if confidence is not None and math.isfinite(confidence) else None,
            regret=None if ours is None or not math.isfinite(ours) else max(max(utilities) - ours, 0.0),
        )

    def explain(self, outcomes: Sequence[EffectiveOutcome] = ()) -> str:
        """Say in a few sentences, one a line, what was decided, why, how it went and what it cost.

        Args:
            outcomes: what has come of it since, as the ledger holds it.
        """
        from router.traces.why import explained

        return "\n".join(sentence.text for sentence in explained(self, outcomes))


def _answer_trace(answer: Answer) -> AnswerTrace:
    return AnswerTrace(
        candidates=tuple(
            CandidateTrace(
                value=candidate.value,
                n_votes=candidate.n_votes,
                share=candidate.share,
                log_probability=candidate.log_probability if candidate.log_probability > float("-inf") else None,
            )
            for candidate in answer.candidates
        ),
        confidence=answer.confidence,
    )
