"""The steps of one solve, each a function of the state so far that returns what it adds. The graph says in which order.

ICL has always run when a decision is made, so its answer is the floor: whatever goes wrong in training, cache or policy
ends there, with the reason in `degraded`. Only a fault of ICL itself is an error.
"""

from __future__ import annotations

import functools
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast

from icl_engine.answer import Answer
from icl_engine.answering import VoteRequest, answer_all_by_vote, answer_all_zero_shot
from icl_engine.errors import ContextOverflow, FewShotError, OutOfMemory
from icl_engine.inference_settings import InferenceSettings
from icl_engine.language_model import LanguageModel
from icl_engine.probe import Prober, ProbeResult, ViewsRequest
from icl_engine.task import Limits, Task
from policies.abilities import check_every, escalates, knows_stages, stage_of, tell_spent
from policies.costs import CostModel, Work
from policies.decision import TRAINING, Arm, Policy, as_it_is, policy_id
from policies.errors import ArmUnavailable
from policies.features import Features, features_of
from policies.fixed import AlwaysArm
from policies.ledger import Ledger
from policies.pacing import arm_charged
from policies.records import DecisionRow, MeasuredCost
from policies.stages import Stage
from router.added_arms import CheckedArm
from router.decision_grounds import grounds_of
from router.decision_seed import decision_rng
from router.solution import Cost
from router.solve_state import SolveState, available_arms, family_of, in_time, seconds_of, trace_of
from router.trace import IN_CONTEXT_INSTEAD, LATE, NONE_AFTER_TRAINING, TRAINED_INSTEAD, DecisionGrounds, Trace
from ttt_engine.cohort import Request, Result, Serve
from ttt_engine.config import TrainingSettings
from ttt_engine.errors import DeadlinePassed, StoreUnavailable

if TYPE_CHECKING:
    from policies.feature_values import FeatureValues
    from router.traces.writer import TraceWriter
    from ttt_engine.engine import Adapted, TttEngine

VIEWS_ASKED = 3  # where a policy wants to see whether views agree, and the settings name no number


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps, bound to the engines they use."""

    model: LanguageModel
    prober: Prober  # on the same model
    policy: Policy
    ledger: Ledger | None  # None: it could not be opened; solving goes on, and says so
    ttt: TttEngine | None  # None: this model cannot be trained
    costs: CostModel
    arms: tuple[str, ...]
    training: TrainingSettings
    inference: InferenceSettings
    gpu: bool
    limits: Limits
    added: Mapping[str, CheckedArm]  # the arms that are not built in
    tenant: str = "default"
    traces: TraceWriter | None = None  # None: only decisions are kept
    redact: Callable[[str], str] = str  # what is told of faults, before it is kept
    text_training: TrainingSettings | None = None  # None: text is trained on as grids are

    def holds_out_at_once(self, forced_arm: str | None) -> bool:
        """Say whether demonstrations are held out with the probe, as the policy cannot ask for it; for an arm that is
        forced, nobody looks at them.
        """
        if forced_arm is not None:
            return False
        try:
            return not knows_stages(self.policy)
        except Exception:  # of a policy, which `decide` meets again and tells of
            return True

    @property
    def arms_there(self) -> tuple[str, ...]:
        """The arms that some task can be answered with here, whether or not a policy chooses from them."""
        built_in = [str(arm) for arm in Arm if self.ttt is not None or arm not in TRAINING]
        return (*built_in, *self.added)

    def admit(self, state: SolveState) -> SolveState:
        """Check the task's size, name the solve and find the arms this task can be answered with.

        Raises:
            TaskRefused: the task is beyond the limits that are set, which may be narrower than those it was made under.
            ArmUnavailable: the arm that is asked for is not among them.
        """
        task, forced = state["task"], state["forced_arm"]
        Task.parse(task.model_dump(), self.limits)
        named = (*self.arms, forced) if forced and forced not in self.arms else self.arms
        fits = {*available_arms(task, named), *(name for name, arm in self.added.items() if task.kind in arm.kinds)}
        arms = tuple(arm for arm in named if arm in fits and arm in self.arms_there)
        if forced is not None and forced not in arms:
            raise ArmUnavailable(forced, arms, task_id=task.id)
        return {"trace_id": uuid.uuid4().hex, "started": time.perf_counter(), "arms": arms, "adapter": None}

    def probe(self, state: SolveState) -> SolveState:
        """Answer in context and read off how well the model has understood the task."""
        found = state["probed"]
        if found is None:
            held_out = self.holds_out_at_once(state["forced_arm"])
            found = self.prober.probe(state["task"], seed=state["seed"], held_out=held_out)
        return {"probe": found, "tokens": found.tokens}

    def lookup(self, state: SolveState) -> SolveState:
        """See whether an adapter for exactly this task is at hand, and how like it the nearest task with one is; then
        what is known will do, or the policy wants to look closer.
        """
        found = self._looked_up(state)
        known: SolveState = {**state, **found}
        features = self._features(known)
        try:
            return {**found, "features": features, "stage": self._stage_wanted(known, features)}
        except Exception as error:  # of a policy
            degraded = (*found.get("degraded", ()), _blind(error))
            return {**found, "features": features, "stage": None, "degraded": degraded}

    def _looked_up(self, state: SolveState) -> SolveState:
        task = state["task"]
        none: SolveState = {"cached": False, "nearest_distance": None}
        if self.ttt is None or Arm.TTT not in state["arms"]:
            return none
        try:
            training, family = self._training(state, Arm.TTT), family_of(state)
            cached = self.ttt.is_cached(task, training, seed=state["seed"], family=family)
            return {"cached": cached, "nearest_distance": self.ttt.nearest_distance(task)}
        except StoreUnavailable as error:
            return {**none, "degraded": (str(error),)}
        except Exception as error:  # a store may be anybody's code, too
            return {**none, "degraded": (f"the store of adapters failed ({_described(error)})",)}

    def look_closer(self, state: SolveState) -> SolveState:
        """Run the stages that the policy asks for before it decides, each at most once and while there is time."""
        known, features, stage, ran = state, state["features"], state["stage"], set[Stage]()
        degraded: tuple[str, ...] = ()
        try:
            while stage is not None and stage not in ran:
                ran.add(stage)
                found: SolveState = {**known, **self._run(stage, known)}
                features = self._features(found)
                known = found
                stage = self._stage_wanted(known, features)
        except Exception as error:  # of a policy, or of what nobody needs for an answer
            degraded = (_blind(error),)
        trial = known.get("trial")
        tokens = known["probe"].tokens - state["probe"].tokens + (0 if trial is None else trial.tokens)
        return {
            "probe": known["probe"],
            "trial": trial,
            "features": features,
            "stage": None,
            "tokens": tokens,
            "degraded": degraded,
        }

    def decide(self, state: SolveState) -> SolveState:
        """Draw an arm; a policy that fails decides for `icl`."""
        task, forced = state["task"], state["forced_arm"]
        features = state["features"]
        rng = decision_rng(task.fingerprint, state["seed"])
        policy = self.policy if forced is None else AlwaysArm(forced)
        try:
            policy = as_it_is(policy)
            decision = policy.decide(features, rng, state["arms"])
            if decision.arm not in state["arms"]:
                raise ArmUnavailable(decision.arm, state["arms"], task_id=task.id)
            return {"decision": decision, "decided_by": policy}
        except Exception as error:  # a policy may be anybody's code; the answer must not hang on it
            reason = f"policy {policy.name} failed ({_described(error)}); answered in context"
            decision = AlwaysArm(Arm.ICL).decide(features, rng, (Arm.ICL,))
            return {"decision": decision, "decided_by": policy, "degraded": (reason,)}

    def answer_icl(self, state: SolveState) -> SolveState:
        """Take the probe's answer, or ask again: without demonstrations for `zero_shot`, whoever answers for an added
        arm.
        """
        if state["decision"].arm == Arm.ICL:
            return self._floor(state)
        if state["decision"].arm != Arm.ZERO_SHOT:
            return self._answer_added(state)
        try:
            answers = self._ask(state, self._all_zero_shot, state["task"])
        except DeadlinePassed as error:
            return {**self._floor(state), "degraded": (f"{error} Answered in context",)}
        except Exception as error:
            return {**self._floor(state), "degraded": (f"zero-shot failed ({_described(error)}); answered in context",)}
        return {"answers": answers, "answered_by": Arm.ZERO_SHOT, "tokens": _tokens(answers)}

    def _answer_added(self, state: SolveState) -> SolveState:
        name, deadline = state["decision"].arm, state["deadline"]
        for seat in (state["seat"], state["prompting"]):
            if seat is not None:
                seat.leave()  # nobody should wait for what is done elsewhere
        if not in_time(state):
            return {**self._floor(state), "degraded": (f"deadline reached before {name} began; answered in context",)}
        try:
            answers = self.added[name].answer(state["task"], deadline=deadline, limits=self.limits)
        except FewShotError as error:
            return {**self._floor(state), "degraded": (str(error), IN_CONTEXT_INSTEAD)}
        except Exception as error:
            said = f"the arm {name} failed ({_described(error)})"
            return {**self._floor(state), "degraded": (said, IN_CONTEXT_INSTEAD)}
        late = () if in_time(state) else (LATE,)
        return {"answers": answers, "answered_by": name, "tokens": _tokens(answers), "degraded": late}

    def answer_vote(self, state: SolveState) -> SolveState:
        """Vote over augmented prompts, without an adapter."""
        request = VoteRequest(state["task"], state["probe"].asked, state["seed"])
        try:
            answers = self._ask(state, self._all_by_vote, request)
        except DeadlinePassed as error:
            return {**self._floor(state), "degraded": (f"{error} Answered in context",)}
        except Exception as error:
            return {**self._floor(state), "degraded": (f"the vote failed ({_described(error)}); answered in context",)}
        return {"answers": answers, "answered_by": Arm.ICL_VOTE, "tokens": _tokens(answers)}

    def adapt(self, state: SolveState) -> SolveState:
        """Find or train the adapter of the task, or of its family; where that fails there is none, and the next step
        answers in context.
        """
        faults: list[str] = []  # of the store, which are worth saying where training fails too
        try:
            adapted = self._adapted(state, faults.append)
        except FewShotError as error:
            return {"adapter": None, "degraded": (*_new(faults, state), str(error))}
        except Exception as error:
            said = f"training failed ({_described(error)}); answered in context"
            return {"adapter": None, "degraded": (*_new(faults, state), said)}
        return {
            "adapter": adapted.adapter,
            "adapter_cached": adapted.cached,
            "adapter_waited": adapted.waited,
            "degraded": _new(adapted.degraded, state),
            "tokens": 0 if adapted.cached else adapted.adapter.train_tokens,
        }

    def _adapted(self, state: SolveState, on_fault: Callable[[str], None]) -> Adapted:
        assert self.ttt is not None  # `admit` offers no ttt arm without it
        progress, family = state["progress"], family_of(state)
        training = self._training(state, self._ttt_arm(state))
        given: dict[str, Any] = {
            "seed": state["seed"],
            "deadline": state["deadline"],
            "cancelled": state["cancelled"],
            "progress": lambda step, steps, loss: progress("adapt", step, steps),
            "on_fault": on_fault,
        }
        if family:
            return self.ttt.adapt_shared(family, training, **given)
        task, seat, untrained = state["task"], state["seat"], state["probe"].loo_nll
        return self.ttt.adapt(task, training, seat=seat, untrained=untrained, **given)

    def answer_ttt(self, state: SolveState) -> SolveState:
        """Vote over augmented prompts with the adapter on."""
        adapter, deadline = state["adapter"], state["deadline"]
        if adapter is None or self.ttt is None:
            return self._floor(state)
        if not adapter.helps:  # by its own held-out demonstrations; the trace says so
            return self._floor(state)
        late: SolveState = {"degraded": ("deadline reached before the trained answer; answered in context",)}
        if deadline is not None and time.monotonic() > deadline:
            return {**self._floor(state), **late}
        try:
            answers = self.ttt.answer(
                state["task"], adapter, settings=self.inference, seed=state["seed"], seat=state["seat"]
            )
        except DeadlinePassed:
            return {**self._floor(state), **late}
        except Exception as error:
            return {**self._floor(state), "degraded": (f"answering failed ({_described(error)}); answered in context",)}
        return {"answers": answers, "answered_by": self._ttt_arm(state), "tokens": _tokens(answers)}

    def verify(self, state: SolveState) -> SolveState:
        """Look at what came out: where an arm gave nothing usable, the answer in context stands; nothing usable there
        either, or what the policy finds too unsure, may be worth training once.
        """
        if _is_whole(state["answers"]):
            return self._escalated_by_policy(state)
        filled = _filled(state)
        said = filled["degraded"]
        if _is_whole(filled["answers"]):
            return {"escalate": False, **filled}
        if state["answered_by"] not in TRAINING and self._may_escalate(state):
            return {"escalate": True, **filled, "degraded": (*said, TRAINED_INSTEAD)}
        return {"escalate": False, **filled, "degraded": (*said, "the model gave no answer of the task's kind")}

    def record(self, state: SolveState) -> SolveState:
        """Keep decision and trace; a ledger that cannot be written costs the record, not the answer."""
        seconds = seconds_of(state)
        cost = Cost(seconds, seconds if self.gpu else 0.0, state.get("tokens", 0))
        decision, found = state["decision"], state["probe"]
        # what broke off early, waited or was trained in the end says nothing of the arm's cost; `icl`'s is the probe's;
        # what was looked at before deciding is no arm's
        seats = (state["seat"], state["prompting"])
        shared = any(seat is not None and seat.shared for seat in seats)  # it costs less than alone
        waited = state.get("adapter_waited", False) or shared or bool(family_of(state))
        broke_off = {*state.get("degraded", ())} - {IN_CONTEXT_INSTEAD, LATE}  # which took all of its time
        if not broke_off and not waited and decision.arm != Arm.ICL:
            cached = state.get("adapter_cached", False)
            trial = state.get("trial")
            took_s = seconds - found.seconds - (0.0 if trial is None else trial.seconds)
            if took_s > 0.0:
                self.costs.measured(decision.arm, took_s, work=_work(state["task"], found), cached=cached)
        uncounted = self._count_spending(state, seconds)
        state = {**state, "degraded": (*state.get("degraded", ()), *uncounted)}
        return {"cost": cost, "degraded": (*uncounted, *self._recorded(state, cost))}

    def _recorded(self, state: SolveState, cost: Cost) -> tuple[str, ...]:
        """Write down the decision and give its trace to be written; return what went wrong."""
        if self.ledger is None:
            return ()
        try:
            recorded = self.ledger.record_decision(self._row(state, cost))
        except FewShotError as error:
            return (f"not recorded: {error}",)
        except Exception as error:  # features of a model, a reason of a policy: both may be anybody's code
            return (f"not recorded: {_described(error)}",)
        if self.traces is None:
            return ()
        try:
            return self.traces.put(recorded, *self._to_be_traced(state, cost, recorded))
        except Exception as error:
            return (f"trace not kept: {_described(error)}",)

    def _row(self, state: SolveState, cost: Cost) -> DecisionRow:
        decision = state["decision"]
        return DecisionRow.of(
            replace(decision, reason=self.redact(decision.reason)),
            state["features"],
            decision_id=state["trace_id"],
            task_fingerprint=state["task"].fingerprint,
            task_id=state["task"].id,
            measured=MeasuredCost(cost.seconds, cost.gpu_seconds, cost.tokens),
            seed=state["seed"],
            tenant=self.tenant,
            degraded=tuple(map(self.redact, state.get("degraded", ()))),
        )

    def _to_be_traced(
        self, state: SolveState, cost: Cost, recorded: DecisionRow
    ) -> tuple[Callable[[], Trace], Callable[[], DecisionGrounds] | None]:
        """Return what makes the trace of a decision and, where its policy did not fail, what says on what it rests."""
        trace = functools.partial(trace_of, state, cost, self.model.fingerprint, recorded)
        policy, features = state["decided_by"], cast("FeatureValues", state["features"])
        decided = state["decision"].policy == policy_id(policy)
        return trace, functools.partial(grounds_of, policy, features, state["arms"]) if decided else None

    def _count_spending(self, state: SolveState, seconds: float) -> tuple[str, ...]:
        """Tell the policy what the task took, unless its arm was forced; return what went wrong."""
        if state["forced_arm"] is not None:
            return ()
        try:
            tell_spent(self.policy, arm_charged(state["decision"].arm, state["answered_by"]), seconds)
        except Exception as error:  # as in `decide`
            return (f"what was spent is not counted: policy {self.policy.name} failed ({_described(error)})",)
        return ()

    def after_lookup(self, state: SolveState) -> Literal["look_closer", "decide"]:
        """Name the step that comes before deciding, if the policy wants one."""
        return "decide" if state["stage"] is None else "look_closer"

    def after_decide(self, state: SolveState) -> Literal["answer_icl", "answer_vote", "adapt"]:
        """Name the step that answers."""
        arm = state["decision"].arm
        if arm in TRAINING:
            return "adapt"
        return "answer_vote" if arm == Arm.ICL_VOTE else "answer_icl"

    def after_verify(self, state: SolveState) -> Literal["adapt", "record"]:
        """Go back to training where `verify` asks for it."""
        return "adapt" if state["escalate"] else "record"

    def _features(self, state: SolveState) -> Features:
        found = state["probe"]
        return features_of(
            state["task"],
            found,
            adapter_cached=state["cached"],
            nearest_adapter_distance=state["nearest_distance"],
            predicted_cost_s=self.costs.predict(
                state["arms"], work=_work(state["task"], found), cached=state["cached"]
            ),
            trial=state.get("trial"),
        )

    def _stage_wanted(self, state: SolveState, features: Features) -> Stage | None:
        """Return the stage that the policy asks for, if it can be run."""
        if not self._may_choose(state) or not in_time(state):
            return None
        stage = stage_of(self.policy, features)
        trains = self.ttt is not None and Arm.TTT in state["arms"]
        return stage if stage in (Stage.HELD_OUT, Stage.VOTES) or (stage == Stage.TRIAL and trains) else None

    def _may_choose(self, state: SolveState) -> bool:
        return state["forced_arm"] is None and len(state["arms"]) > 1

    def _run(self, stage: Stage, state: SolveState) -> SolveState:
        if stage == Stage.TRIAL:
            return self._try_training(state)
        if stage == Stage.HELD_OUT:
            return {"probe": self._ask(state, self._all_held_out, (state["task"], state["probe"]))}
        n_views = self.prober.n_views or VIEWS_ASKED
        request = ViewsRequest(state["task"], state["probe"], n_views, state["seed"])
        return {"probe": self._ask(state, self.prober.ask_views, request)}

    def _all_held_out(self, probed: Sequence[tuple[Task, ProbeResult]]) -> list[ProbeResult | Exception]:
        """Hold out the demonstrations of all at once or, where that does not work, of each by itself."""
        try:
            return list(self.prober.hold_out(probed))
        except (ContextOverflow, OutOfMemory) as error:
            return [error] if len(probed) == 1 else [self._all_held_out([each])[0] for each in probed]

    def _ask(self, state: SolveState, serve: Serve[Request, Result], request: Request) -> Result:
        """Ask in context: beside others who do, and in nobody's wake who trains; else, where there is one, from the
        seat among all others.

        Raises:
            DeadlinePassed: it has, before there was an answer.
        """
        if not in_time(state):
            raise DeadlinePassed("answering in context", task_id=state["task"].id)
        prompting, seat = state["prompting"], state["seat"]
        if prompting is not None:
            if seat is not None:
                seat.leave()  # the training of others should not wait for this
            try:
                return prompting.ask(serve, request)
            finally:
                prompting.leave()
        if seat is not None:
            return seat.ask(serve, request)
        (found,) = serve([request])
        if isinstance(found, Exception):
            raise found
        return found

    def _all_by_vote(self, requests: Sequence[VoteRequest]) -> list[tuple[Answer, ...] | Exception]:
        return answer_all_by_vote(self.model, requests, self.inference)

    def _all_zero_shot(self, tasks: Sequence[Task]) -> list[tuple[Answer, ...] | Exception]:
        return answer_all_zero_shot(self.model, tasks)

    def _try_training(self, state: SolveState) -> SolveState:
        assert self.ttt is not None  # `_stage_wanted` says so
        trial = self.ttt.trial(
            state["task"],
            self._training_of(state["task"]),
            seed=state["seed"],
            untrained=state["probe"].loo_nll,
            deadline=state["deadline"],
            cancelled=state["cancelled"],
            seat=state["seat"],
        )
        return {"trial": trial}

    def _floor(self, state: SolveState) -> SolveState:
        """Return the answer that stands without training: the one there was before an escalation, else the probe's."""
        if before := state.get("answers", ()):
            return {"answers": before, "answered_by": state["answered_by"]}
        return {"answers": state["probe"].answers, "answered_by": Arm.ICL}

    def _ttt_arm(self, state: SolveState) -> str:
        return state["decision"].arm if state["decision"].arm in TRAINING else Arm.TTT

    def _training(self, state: SolveState, arm: str) -> TrainingSettings:
        """Return how `arm` trains; a policy may have training looked after that the settings would let run on."""
        training = self._training_of(state["task"])
        training = training.shortened() if arm == Arm.TTT_SHORT else training
        steps = self._watched_every(state)
        return training if steps is None else replace(training, check_every=steps)

    def _watched_every(self, state: SolveState) -> int | None:
        try:
            return check_every(self.policy) if state["forced_arm"] is None else None
        except Exception:  # of a policy, which `decide` meets again and tells of
            return None

    def _training_of(self, task: Task) -> TrainingSettings:
        return self.training if task.kind == "grid" or self.text_training is None else self.text_training

    def _escalated_by_policy(self, state: SolveState) -> SolveState:
        """Ask the policy whether to train after all, if the time that is left will do for it."""
        arm, features = state["answered_by"], state["features"]
        if arm in TRAINING or not self._may_escalate(state):
            return {"escalate": False}
        train_s = dict(features.predicted_cost_s).get(Arm.TTT, 0.0)
        if state["deadline"] is not None and time.monotonic() + train_s > state["deadline"]:
            return {"escalate": False}
        confidence = min(answer.confidence for answer in state["answers"])
        try:
            wanted = escalates(state["decided_by"], features, arm, confidence)
        except Exception as error:  # as in `decide`
            return {"escalate": False, "degraded": (f"policy {self.policy.name} failed ({_described(error)})",)}
        if not wanted:
            return {"escalate": False}
        return {"escalate": True, "degraded": (f"{arm} was unsure (confidence {confidence:.2f}); trained instead",)}

    def _may_escalate(self, state: SolveState) -> bool:
        tried = any(step.name == "adapt" for step in state["path"])
        return state["forced_arm"] is None and Arm.TTT in state["arms"] and in_time(state) and not tried


def _work(task: Task, found: ProbeResult) -> Work:
    """Return what the cost of an arm hangs on; what a prompt takes has been measured by the probe."""
    return Work(found.prompt_s, len(task.queries), task.kind)


def _is_whole(answers: Sequence[Answer]) -> bool:
    """Say whether every query has an answer."""
    return all(answer.value is not None for answer in answers)


def _filled(state: SolveState) -> SolveState:
    """Return the answers with those in context where the arm gave none, and say so where that fills any."""
    by, given = state["answered_by"], state["answers"]
    in_context = given if by == Arm.ICL else state["probe"].answers
    best = tuple(own if own.value is not None else floor for own, floor in zip(given, in_context, strict=True))
    is_filled = [own.value for own in given] != [each.value for each in best]
    said = NONE_AFTER_TRAINING if by in TRAINING else IN_CONTEXT_INSTEAD
    return {
        "answers": best,
        "answered_by": by if any(answer.value is not None for answer in given) else Arm.ICL,
        "degraded": (said,) if is_filled else (),
    }


def _tokens(answers: Sequence[Answer]) -> int:
    return sum(answer.tokens for answer in answers)


def _new(told: Sequence[str], state: SolveState) -> tuple[str, ...]:
    """Return what has not been said yet."""
    return tuple(each for each in told if each not in state.get("degraded", ()))


def _blind(error: Exception) -> str:
    return f"could not look closer before deciding ({_described(error)})"


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
