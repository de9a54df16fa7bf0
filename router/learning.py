"""The learner: from what came of decisions to a better policy, without a person and off the answering path.

A candidate is fitted on what was logged and judged by the gate on what came after; then it decides beside the champion
without being followed (shadow), then for a part of the tasks (canary), and only then takes its place. At each step it
may be turned down, and a champion that is shown to be worse than the one before is rolled back. A drift alarm or a
new base model takes the champion away altogether: a stated rule or the prior decides, and learning begins anew. All of
it is in the ledger, with its numbers, so that a restarted learner goes on where it was. When steps are taken is
`LearningLoop`'s.
"""

from __future__ import annotations

import functools
import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from policies.confidence_sequence import alpha_at
from policies.decision import Policy
from policies.features import SCHEMA_HASH
from policies.gate import GateRules, Outcome, UtilityBounds, Verdict, judge, utility_bounds
from policies.off_policy import Estimate, by_every_estimator, cross_fitted
from policies.policy_versions import CHALLENGER, CHAMPION, PREVIOUS, ROLLED_BACK
from policies.records import Alias, PolicyState, PolicyVersion
from router.acting_policy import ActingPolicy
from router.drift_watch import DriftWatch
from router.errors import FewShotError, PolicyFileDamaged, PromotionLost, TooFewOutcomes
from router.hindsight import Loaded, knowing_enough, knows_training, no_sides, propensities_of, sides_of
from router.learning_rows import (
    AUDITED,
    Experience,
    ExperienceReader,
    RowRules,
    counted_since,
    last_reset,
    named_features,
)
from router.versioned_policies import Load, VersionedPolicies

if TYPE_CHECKING:
    import numpy.typing as npt

    from policies.ledger import Ledger
    from policies.outcome_matrix import OutcomeMatrix


_LOG = logging.getLogger(__name__)

Fit = Callable[["OutcomeMatrix"], bytes]  # outcomes in the order of time -> a policy's content
Known = Callable[[], Experience]  # reads what is known by now
ActAs = Callable[[Policy, int, Known | None], Policy]


@dataclass(frozen=True, slots=True)
class LearningSettings:
    """How the loop learns."""

    gate: GateRules = field(default_factory=GateRules)
    rows: RowRules = field(default_factory=RowRules)
    least_rows: int = 100  # known outcomes before the first candidate; below that nothing reliable is learned
    window: int = 1000  # the newest known outcomes, which a candidate is fitted on: older ones tell of other tasks
    new_rows: int = 100  # known outcomes after one candidate was settled, before the next
    patience_rows: int = 4000  # after which an undecided candidate is given up
    shadow_decisions: int = 200  # decided beside the champion, before it decides for anyone
    canary_share: float = 0.1  # of the tasks, decided by a canary
    canary_rows: int = 200  # known outcomes of a canary's time, before it may become champion
    margin: float = 0.02  # of utility a task: a canary must be shown not to lose more
    interval_s: float = 30.0  # between two turns
    follow_s: float = 1.0  # between two looks at who was promoted, maybe by another process


@dataclass(frozen=True, slots=True)
class Event:
    """Something the loop did, in words that the ledger holds too."""

    kind: str  # "fitted", "shadow", "canary", "promoted", "rejected", "rolled back", "drift", "reset"
    version_id: str | None
    reason: str


class Learner:
    """Learns from a ledger, one step after the other, and says who decides: `policy` goes to the router.

    Args:
        fit: makes a policy's content from outcomes.
        load: makes the policy of a content; used at once, so content that does not load is never kept.
        prior: decides while there is no champion.
        model_fingerprint: of the base model in use; what was learned for another one does not count.
        fallback: decides after a drift alarm, and should explore: learning begins anew.
        act_as: what a policy is made to do where it decides, such as keep to a price; it is judged as it is. Given with
            the number of the last decision that the policy was fitted on, and with what reads what is known (None:
            there is no ledger).
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        fit: Fit,
        load: Load,
        prior: Loaded,
        fallback: Policy,
        model_fingerprint: str | None = None,
        settings: LearningSettings | None = None,
        schema: str = SCHEMA_HASH,
        act_as: ActAs = lambda policy, trained_to_seq, known: policy,
    ) -> None:
        self.settings = settings or LearningSettings()
        self._ledger, self._versions = ledger, ledger.policy_versions
        self._fit, self._prior, self._fallback, self._act_as = fit, prior, Loaded(fallback), act_as
        self._policies = VersionedPolicies(self._versions, load, model_fingerprint=model_fingerprint, schema=schema)
        self._reader = ExperienceReader(ledger, self.settings.rows, model_fingerprint=model_fingerprint, schema=schema)
        self._used: set[int] = set()  # decisions fitted on, or known when a candidate was settled: no new evidence
        self._settled = ""  # when the last candidate was
        self._drift = DriftWatch(self._versions)
        self._seen: tuple[int, int, PolicyState | None] | None = None  # epochs and a challenger's state, last looked at
        self._refreshing = threading.Lock()
        self._refreshed_at = 0.0  # time.monotonic()
        self.fault: str | None = None  # what keeps the champion from deciding; None: nothing does
        self.policy = ActingPolicy(prior.policy)
        try:
            self._refresh()
        except FewShotError as error:  # a champion that does not load: the prior decides until it does
            self.policy.use(act_as(prior.policy, 0, self._experience))
            self.fault = str(error)

    def look(self) -> None:
        """Let those decide whom the ledger names, if that has changed since the last look; every `interval_s` anyway,
        as what they are made to keep to may rest on what has been heard.
        """
        champion, challenger = self._versions.alias(CHAMPION), self._versions.alias(CHALLENGER)
        state = None if challenger.version_id is None else self._versions.version(challenger.version_id).state
        named = (champion.epoch, challenger.epoch, state)
        due = time.monotonic() - self._refreshed_at >= self.settings.interval_s
        if due or named != self._seen:
            try:
                self._refresh()
            except PolicyFileDamaged as error:  # whoever decided goes on
                self.fault = str(error)
                raise
            self._seen = named

    # One step

    def step(self) -> tuple[Event, ...]:
        """Look at the ledger and do what there is to do; return what was done."""
        forgotten = self._forget_another_model()
        known = self._experience()
        events = [*forgotten, *self._watch(known)]
        if events:  # less counts from now on
            self._refresh()
            return tuple(events)
        try:
            events = self._settle_champion(known) or self._advance(known)
        except PromotionLost:  # another process was first: what it did stands
            _LOG.info("another process moved an alias first")
        self._refresh(lambda: known)
        return tuple(events)

    def train(self, *, anyway: bool = False) -> Event | None:
        """Fit a candidate on all that is known and make it the challenger; None where nothing comes out that has not
        been judged already.

        Args:
            anyway: on however little; what the prior believes then weighs more than what came of the decisions.

        Raises:
            TooFewOutcomes: fewer are known than `least_rows`, or anyway none of an answer after training.
            PromotionLost: another process was first with a challenger, or moved on the one that was there.
        """
        challenger = self._versions.alias(CHALLENGER)
        known, least = self._experience(), self.settings.least_rows
        if len(known) < least and not anyway:
            remedy = "Solve more tasks whose solutions are known, or fit on what there is (--anyway)."
            raise TooFewOutcomes(len(known), needed=least, remedy=remedy)
        if not knows_training(self._newest(known)):
            remedy = f"Say what came of an answer that was drawn with `{AUDITED}`, which has been trained on."
            raise TooFewOutcomes(0, needed=1, remedy=remedy)
        return self._new_candidate(known, challenger)

    def verdict(self, version_id: str) -> Verdict:
        """Judge a version by what has come since it was fitted, and change nothing."""
        return self._judged(self._versions.version(version_id), self._experience())

    def worth(self, version_id: str) -> dict[str, dict[str, Estimate]]:
        """Return the utility a task of a version and of who decides now, by estimator, over what came since the version
        was fitted; nothing where nothing came.
        """
        version, known = self._versions.version(version_id), self._experience()
        sides = {"this version": self._policies.open(version_id).policy, "who decides now": self._champion().policy}
        newer = known.take(known.seqs > (version.trained_to_seq or 0)).drawn_anew()
        newer = knowing_enough(newer, *sides.values())
        if not len(newer):
            return {}
        rules, rows = self.settings.gate, newer.rows
        values = rows.utility(rules.price, most_cost=rules.most_cost)
        predicted = cross_fitted(rows, values)
        return {
            side: by_every_estimator(rows, propensities_of(policy, newer), values, predicted)
            for side, policy in sides.items()
        }

    def _experience(self) -> Experience:
        return self._reader.read(since=counted_since(self._ledger))

    def _forget_another_model(self) -> tuple[Event, ...]:
        champion = self._versions.alias(CHAMPION).version_id
        if champion is None or self._policies.usable(champion) is not None:
            return ()
        return (self._reset("reset", "another base model or other features: back to the prior"),)

    def _reset(self, kind: str, reason: str) -> Event:
        """Leave nobody to decide or to go back to; what was known so far no longer counts."""
        for name in (CHALLENGER, PREVIOUS, CHAMPION):
            alias = self._versions.alias(name)
            if alias.version_id is not None or name == CHAMPION:
                self._versions.point(name, None, expected_epoch=alias.epoch, reason=f"{kind}: {reason}")
            if alias.version_id is not None and name != PREVIOUS:
                self._versions.set_state(alias.version_id, PolicyState.RETIRED, reason)
        return Event(kind, None, reason)

    def _watch(self, known: Experience) -> tuple[Event, ...]:
        """Compare what came with what was expected, arm by arm, and the features with those fitted on."""
        if len(known) < 2 * self.settings.least_rows:
            return ()
        champion = self._versions.alias(CHAMPION)
        model, n_first = self._champion().model, self.settings.least_rows
        reason = self._drift.alarm(known, champion, model, n_first=n_first)
        return () if reason is None or champion.version_id is None else (self._reset("drift", reason),)

    def _settle_champion(self, known: Experience) -> list[Event]:
        """Roll back a champion that is shown to be worse than who decided before."""
        champion, previous = self._versions.alias(CHAMPION), self._versions.alias(PREVIOUS).version_id
        if champion.version_id is None:
            return []
        usable = None if previous is None else self._policies.usable(previous)
        before = usable or self._without_champion()
        since = self._versions.moves(CHAMPION)[-1].created_at
        newer = np.array([at > since for at in known.created_at], dtype=bool)
        bounds = self._bounds(known, newer, champion.version_id, before.policy, attempt=1)
        if bounds.upper >= 0:
            return []
        reason = _with_numbers(f"utility at most {bounds.upper:+.4f} against who decided before", bounds)
        if usable is None:
            self._versions.point(CHAMPION, None, expected_epoch=champion.epoch, reason=f"{ROLLED_BACK}: {reason}")
            self._versions.set_state(champion.version_id, PolicyState.RETIRED, reason)
        else:
            self._versions.roll_back(expected_epoch=champion.epoch, reason=reason)
        return [Event(ROLLED_BACK, champion.version_id, reason)]

    def _advance(self, known: Experience) -> list[Event]:
        alias = self._versions.alias(CHALLENGER)
        challenger = alias.version_id
        if challenger is None:
            return self._maybe_fit(known, alias)
        version = self._versions.version(challenger)
        try:
            usable = self._policies.usable(challenger)
        except PolicyFileDamaged as error:
            return [self._reject(version, str(error))]
        if usable is None:
            return [self._reject(version, "made for another base model or other features")]
        if version.state is PolicyState.CANDIDATE:
            return self._gate(version, known)
        if version.state is PolicyState.SHADOW:
            return self._shadow(version, usable.policy)
        if version.state is PolicyState.CANARY:
            return self._canary(version, known)
        # settled already; whoever did it was stopped before this
        self._versions.point(CHALLENGER, None, expected_epoch=alias.epoch, reason=f"is {version.state}")
        return []

    def _maybe_fit(self, known: Experience, nobody: Alias) -> list[Event]:
        versions = self._versions.all()
        settled = max((self._versions.history(each.version_id)[-1].created_at for each in versions), default="")
        if settled != self._settled:
            earlier = np.array([at <= settled for at in known.created_at], dtype=bool)
            self._settled, self._used = settled, self._used | set(known.seqs[earlier].tolist())
        new = len(set(known.seqs.tolist()) - self._used)  # those heard of late as well
        if len(known) < self.settings.least_rows or (versions and new < self.settings.new_rows):
            return []
        if not knows_training(self._newest(known)):
            return []
        event = self._new_candidate(known, nobody)
        return [] if event is None else [event]

    def _new_candidate(self, known: Experience, replaced: Alias) -> Event | None:
        """Fit, publish and put in the place of a challenger; None where that gives a policy which has been judged
        already.

        Args:
            replaced: the challenger of before all this, which takes seconds.

        Raises:
            PromotionLost: another process has moved it meanwhile.
        """
        newest = self._newest(known)
        content = self._policies.sealed(self._fit(newest.matrix()))
        parent = self._versions.alias(CHAMPION).version_id
        version = self._versions.publish(content, parent=parent, trained_to_seq=int(known.seqs[-1]))
        self._used.update(known.seqs.tolist())
        if version.state is not PolicyState.CANDIDATE:
            return None
        reason = f"fitted on {len(newest)} decisions with known outcomes"
        if replaced.version_id != version.version_id:
            self._make_challenger(version, replaced, reason)
        return Event("fitted", version.version_id, reason)

    def _make_challenger(self, version: PolicyVersion, replaced: Alias, reason: str) -> None:
        """Leave no version behind as a candidate for ever: neither who is replaced nor who comes too late."""
        try:
            self._versions.point(CHALLENGER, version.version_id, expected_epoch=replaced.epoch, reason=reason)
        except PromotionLost:
            if self._versions.alias(CHALLENGER).version_id != version.version_id:  # it may have fitted the same
                self._versions.set_state(version.version_id, PolicyState.REJECTED, "another challenger was first")
            raise
        if replaced.version_id is not None:
            said = f"replaced by {version.version_id[:12]}"
            self._versions.set_state(replaced.version_id, PolicyState.REJECTED, said)

    def _newest(self, known: Experience) -> Experience:
        return known.take(np.arange(len(known)) >= len(known) - self.settings.window)

    def _gate(self, version: PolicyVersion, known: Experience) -> list[Event]:
        verdict = self._judged(version, known)
        if verdict.outcome is Outcome.PROMOTE:
            return [self._move(version, PolicyState.SHADOW, verdict)]
        if verdict.outcome is Outcome.REFUSE:
            return [self._reject(version, _told(verdict))]
        n = int((known.seqs > (version.trained_to_seq or 0)).sum())  # repeats too: few tasks must not hold it for ever
        if n >= self.settings.patience_rows:
            return [self._reject(version, f"undecided after {n} rows; {_told(verdict)}")]
        return []

    def _shadow(self, version: PolicyVersion, policy: Policy) -> list[Event]:
        """Let it decide beside the champion; a policy that fails is turned down before anyone depends on it."""
        since = self._versions.history(version.version_id)[-1].created_at
        agreed = n = 0
        for row in self._ledger.latest(self.settings.shadow_decisions * 5):
            if (row.created_at or "") <= since:
                break
            arms = [arm for arm, _ in row.propensities]
            try:
                p = policy.propensities(named_features(row), arms)
            except Exception as error:  # whatever it is, it must not happen while it decides
                return [self._reject(version, f"failed as a shadow: {type(error).__name__}: {error}")]
            if len(p) != len(arms) or abs(sum(p) - 1.0) > 1e-6 or min(p) < 0:
                return [self._reject(version, f"failed as a shadow: probabilities {p} of {arms}")]
            agreed, n = agreed + (arms[int(np.argmax(p))] == row.arm), n + 1
        if n < self.settings.shadow_decisions:
            return []
        reason = f"decided {n} tasks as a shadow, {agreed / n:.0%} as they were decided"
        self._versions.set_state(version.version_id, PolicyState.CANARY, reason)
        return [Event("canary", version.version_id, reason)]

    def _canary(self, version: PolicyVersion, known: Experience) -> list[Event]:
        epoch = self._versions.alias(CHAMPION).epoch  # of the champion it is compared with, which takes seconds
        since = self._versions.history(version.version_id)[-1].created_at
        its_time = np.array([at > since for at in known.created_at], dtype=bool)
        n = int((its_time & known.first).sum())
        newer = known.seqs > (version.trained_to_seq or 0)
        attempt = self._attempt(version)
        bounds = self._bounds(known, newer, version.version_id, self._champion().policy, attempt=attempt)
        if bounds.upper < 0:
            return [self._reject(version, _with_numbers("rolled back as a canary: shown to be worse", bounds))]
        if n < self.settings.canary_rows:
            if its_time.sum() < self.settings.patience_rows:
                return []
            return [self._reject(version, _with_numbers(f"only {n} tasks that are no repeats as a canary", bounds))]
        if bounds.lower <= -self.settings.margin:
            said = f"rolled back as a canary: may lose more than {self.settings.margin} a task"
            return [self._reject(version, _with_numbers(said, bounds))]
        reason = _with_numbers(f"held as a canary over {n} known outcomes", bounds)
        self._versions.promote(version.version_id, expected_epoch=epoch, reason=reason)
        return [Event("promoted", version.version_id, reason)]

    def _move(self, version: PolicyVersion, state: PolicyState, verdict: Verdict) -> Event:
        reason = _told(verdict)
        self._versions.set_state(version.version_id, state, reason)
        return Event(str(state), version.version_id, reason)

    def _reject(self, version: PolicyVersion, reason: str) -> Event:
        self._versions.set_state(version.version_id, PolicyState.REJECTED, reason)
        alias = self._versions.alias(CHALLENGER)
        if alias.version_id == version.version_id:
            self._versions.point(CHALLENGER, None, expected_epoch=alias.epoch, reason="rejected")
        return Event("rejected", version.version_id, reason)

    # What policies would do

    def _judged(self, version: PolicyVersion, known: Experience) -> Verdict:
        attempt = self._attempt(version)
        before = known.seqs <= (version.trained_to_seq or 0)
        try:
            loaded = self._policies.open(version.version_id)
            judging = known.take(~before).drawn_anew()
            earlier, newest = (sides_of(part, loaded, self._champion()) for part in (known.take(before), judging))
        except Exception as error:  # a damaged file, or a policy that cannot decide what was decided before
            unfit = f"{type(error).__name__}: {error}"
            return judge(no_sides(known), no_sides(known), attempt=attempt, rules=self.settings.gate, unfit=unfit)
        return judge(earlier, newest, attempt=attempt, rules=self.settings.gate)

    def _bounds(
        self, known: Experience, newer: npt.NDArray[np.bool_], version_id: str, against: Policy, *, attempt: int
    ) -> UtilityBounds:
        loaded, other = self._policies.open(version_id), Loaded(against)
        judging = known.take(newer).drawn_anew()
        earlier, newest = (sides_of(part, loaded, other) for part in (known.take(~newer), judging))
        rules = self.settings.gate
        return utility_bounds(earlier, newest, alpha=alpha_at(attempt, rules.alpha), rules=rules)

    def _attempt(self, version: PolicyVersion) -> int:
        """Return the how-manieth candidate of this ledger it is."""
        return 1 + [each.version_id for each in self._versions.all()].index(version.version_id)

    def _champion(self) -> Loaded:
        version_id = self._versions.alias(CHAMPION).version_id
        usable = None if version_id is None else self._policies.usable(version_id)
        return usable or self._without_champion()

    def _without_champion(self) -> Loaded:
        """Return the prior or, after a drift alarm, the stated rule, which explores more."""
        reset = last_reset(self._ledger)
        return self._fallback if reset is not None and reset.reason.startswith("drift") else self._prior

    def _refresh(self, known: Known | None = None) -> None:
        """Let those decide whom the ledger names.

        Args:
            known: gives what is known by now, if anybody has to keep to it; None: it is read then, once.
        """
        read = functools.cache(known or self._experience)
        with self._refreshing:  # what was read last is used last
            challenger = self._versions.alias(CHALLENGER).version_id
            canary = None
            if challenger is not None and self._versions.version(challenger).state is PolicyState.CANARY:
                canary = self._act_as(self._policies.open(challenger).policy, self._trained_to(challenger), read)
            champion_id = self._versions.alias(CHAMPION).version_id
            champion = self._act_as(self._champion().policy, self._trained_to(champion_id), read)
            self.policy.use(champion, canary, self.settings.canary_share)
            self._refreshed_at = time.monotonic()
            self.fault = None

    def _trained_to(self, version_id: str | None) -> int:
        return 0 if version_id is None else self._versions.version(version_id).trained_to_seq or 0


def _told(verdict: Verdict) -> str:
    return f"{verdict.outcome}: {'; '.join(verdict.reasons)} {verdict.as_json()}"


def _with_numbers(said: str, bounds: UtilityBounds) -> str:
    numbers = {
        "utility": bounds.estimate.value, "lower": bounds.lower, "upper": bounds.upper, "n_rows": bounds.estimate.n,
        "effective_n": bounds.estimate.effective_n,
    }  # fmt: skip
    return f"{said} {json.dumps(numbers)}"
