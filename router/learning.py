"""The learning loop: from what came of decisions to a better policy, without a person and off the answering path.

A candidate is fitted on what was logged and judged by the gate on what came after; then it decides beside the champion
without being followed (shadow), then for a part of the tasks (canary), and only then takes its place. At each step it
may be turned down, and a champion that is shown to be worse than the one before is rolled back. A drift alarm or a
new base model takes the champion away altogether: a stated rule decides, and learning begins anew. All of it is in the
ledger, with its numbers, so that a restarted loop goes on where it was.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np

from policies.confidence_sequence import alpha_at
from policies.decision import Decision, paired
from policies.drift import AdaptiveWindow, shifted_features
from policies.feature_values import feature_row
from policies.features import SCHEMA_HASH
from policies.gate import GateRules, Outcome, Sides, UtilityBounds, Verdict, judge, utility_bounds
from policies.loo_threshold import LooThreshold
from policies.off_policy import fitted_on
from policies.policy_versions import CHALLENGER, CHAMPION, PREVIOUS
from policies.records import PolicyState, PolicyVersion
from policies.stages import AsksForStages, Stage
from router.errors import FewShotError, PolicyFileDamaged, PromotionLost
from router.learning_rows import AUDITED, Experience, RowRules, named_features, read_experience

if TYPE_CHECKING:
    import numpy.typing as npt

    from policies.feature_values import FeatureValues
    from policies.gain_model import GainModel
    from policies.ledger import Ledger
    from policies.outcome_matrix import OutcomeMatrix

    Floats = npt.NDArray[np.float64]

_LOG = logging.getLogger(__name__)
_HEADER = b"ttt-router policy 1 "
_ROLLED_BACK = "rolled back"


class Replayable(Protocol):
    """A policy that decides by values alone, live or from a log."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    def propensities(self, features: FeatureValues, arms: Sequence[str]) -> tuple[float, ...]: ...

    def decide(self, features: FeatureValues, rng: np.random.Generator, arms: Sequence[str]) -> Decision: ...


@dataclass(frozen=True, slots=True)
class Loaded:
    """A policy as it is used, and the model behind it where there is one."""

    policy: Replayable
    model: GainModel | None = None


Fit = Callable[["OutcomeMatrix", "Floats"], bytes]  # outcomes, weights (n, n_arms) -> a policy's content
Load = Callable[[bytes], Loaded]


@dataclass(frozen=True, slots=True)
class LearningSettings:
    """How the loop learns."""

    gate: GateRules = field(default_factory=GateRules)
    rows: RowRules = field(default_factory=RowRules)
    least_rows: int = 100  # known outcomes before the first candidate; below that nothing reliable is learned
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


@dataclass(frozen=True, slots=True)
class _InUse:
    """Who decides; replaced as a whole, so that no decision sees half a change."""

    champion: Replayable
    canary: Replayable | None = None
    share: float = 0.0


class ActingPolicy:
    """The policy a router uses while the loop learns: the champion, for a share of the tasks the canary.

    Every decision carries the probabilities of the mixture, which is what it was drawn with.
    """

    def __init__(self, champion: Replayable) -> None:
        self._in_use = _InUse(champion)

    @property
    def name(self) -> str:
        return self._in_use.champion.name

    @property
    def version(self) -> str:
        return _version_of(self._in_use)

    @property
    def champion(self) -> Replayable:
        """Who decides, but for a canary's share."""
        return self._in_use.champion

    def use(self, champion: Replayable, canary: Replayable | None = None, share: float = 0.0) -> None:
        """Decide by these from now on."""
        self._in_use = _InUse(champion, canary, share if canary is not None else 0.0)

    @property
    def asks_for_stages(self) -> bool:
        """Whether any of those who decide may want to look closer first."""
        asked: tuple[object, ...] = (self._in_use.champion, self._in_use.canary)
        return any(isinstance(each, AsksForStages) for each in asked)

    def propensities(self, features: FeatureValues, arms: Sequence[str]) -> tuple[float, ...]:
        """Return the mixture's probability of each arm."""
        return _mixture(self._in_use, features, arms)

    def decide(self, features: FeatureValues, rng: np.random.Generator, arms: Sequence[str]) -> Decision:
        in_use = self._in_use
        if in_use.canary is None:
            return in_use.champion.decide(features, rng, arms)
        decides = in_use.canary if rng.random() < in_use.share else in_use.champion
        decision = decides.decide(features, rng, arms)
        mixed = _mixture(in_use, features, arms)
        p = mixed[list(arms).index(decision.arm)]
        policy = f"{in_use.champion.name}@{_version_of(in_use)}"
        return replace(decision, propensity=p, propensities=paired(arms, mixed), policy=policy)

    def stages_wanted(self, features: FeatureValues) -> Stage | None:
        """Ask for what the champion asks for or, before the draw of who decides, the canary."""
        in_use = self._in_use
        wanted = (_stage_wanted(each, features) for each in (in_use.champion, in_use.canary))
        return min((stage for stage in wanted if stage is not None), default=None)


def _version_of(in_use: _InUse) -> str:
    canary = in_use.canary
    if canary is None:
        return in_use.champion.version
    return f"{in_use.champion.version}+canary:{in_use.share}:{canary.name}@{canary.version}"


def _stage_wanted(policy: Replayable | None, features: FeatureValues) -> Stage | None:
    asking: object = policy
    return asking.stages_wanted(features) if isinstance(asking, AsksForStages) else None


def _mixture(in_use: _InUse, features: FeatureValues, arms: Sequence[str]) -> tuple[float, ...]:
    champion = in_use.champion.propensities(features, arms)
    if in_use.canary is None:
        return champion
    canary = in_use.canary.propensities(features, arms)
    return tuple((1 - in_use.share) * a + in_use.share * b for a, b in zip(champion, canary, strict=True))


class Learner:
    """Learns from a ledger and says who decides: `policy` goes to the router, `start` runs the loop in a thread.

    Args:
        fit: makes a policy's content from outcomes.
        load: makes the policy of a content; used at once, so content that does not load is never kept.
        prior: decides while there is no champion.
        model_fingerprint: of the base model in use; what was learned for another one does not count.
        fallback: decides after a drift alarm; by default the leave-one-out rule, every arm with 0.2 at least.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        fit: Fit,
        load: Load,
        prior: Loaded,
        model_fingerprint: str | None = None,
        settings: LearningSettings | None = None,
        fallback: Replayable | None = None,
        schema: str = SCHEMA_HASH,
    ) -> None:
        self.settings = settings or LearningSettings()
        self._ledger, self._versions = ledger, ledger.policy_versions
        self._fit, self._load, self._prior = fit, load, prior
        self._model_fingerprint, self._schema = model_fingerprint, schema
        n_arms = len(self.settings.rows.arms)
        rule: object = fallback or LooThreshold(epsilon=min(1.0, 0.2 * n_arms))
        self._fallback = Loaded(cast("Replayable", rule))
        self._opened: dict[str, Loaded] = {}
        self._made_for_model: dict[str, bool] = {}  # by decision
        self._fitted_to = 0  # number of the last decision that was fitted on
        self._drift: dict[str, AdaptiveWindow] = {}
        self._watched_epoch = -1  # of the champion that the windows belong to
        self._watched_to = 0
        self._jobs: deque[Callable[[], None]] = deque()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._following: threading.Thread | None = None
        self._followed: tuple[int, int, PolicyState | None] | None = None
        self._refreshing = threading.Lock()
        self.fault: str | None = None  # of the last turn; None: it went well
        self.policy = ActingPolicy(prior.policy)
        try:
            self._refresh()
        except FewShotError as error:  # a champion that does not load: the prior decides until it does
            self.fault = str(error)

    # In the background

    def start(self) -> None:
        """Run a turn every `interval_s` in a thread of its own until `stop`; starting twice is harmless."""
        if self._thread is None:
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, name="learning", daemon=True)
            self._thread.start()

    def follow(self) -> None:
        """Look every `follow_s`, in a thread of its own until `stop`, whom the ledger names, and let those decide."""
        if self._following is None:
            self._stop.clear()
            self._following = threading.Thread(target=self._follow, name="following", daemon=True)
            self._following.start()

    def stop(self) -> None:
        """Let the turn that runs end, and no other begin; then do the jobs that wait."""
        self._stop.set()
        for thread in (self._thread, self._following):
            if thread is not None:
                thread.join()
        self._thread = self._following = None
        self._do_jobs()

    @property
    def alive(self) -> bool:
        """Whether the loop runs in the background."""
        return self._thread is not None and self._thread.is_alive()

    def later(self, job: Callable[[], None]) -> None:
        """Run a job, such as an audit, at the next turn."""
        self._jobs.append(job)

    def _run(self) -> None:
        while not self._stop.is_set():
            self.turn()
            self._stop.wait(self.settings.interval_s)

    def _follow(self) -> None:
        while not self._stop.wait(self.settings.follow_s):
            try:
                self.look()
            except Exception as error:  # a ledger that is away is told of by whoever records; the next look may succeed
                _LOG.debug("cannot look who was promoted: %s", error)

    def look(self) -> None:
        """Let those decide whom the ledger names, if that has changed since the last look."""
        champion, challenger = self._versions.alias(CHAMPION), self._versions.alias(CHALLENGER)
        state = None if challenger.version_id is None else self._versions.version(challenger.version_id).state
        named = (champion.epoch, challenger.epoch, state)
        if named != self._followed:
            self._refresh()
            self._followed = named

    def turn(self) -> tuple[Event, ...]:
        """Do one step, whatever happens: a fault is kept in `fault` and logged, and the next turn tries again."""
        done = self._do_jobs()
        try:
            events = self.step()
        except Exception as error:  # nobody waits for this thread: what it does not say here is lost
            self._failed(error, "the learning loop could not finish a turn")
            return ()
        if done:
            self.fault = None
        return events

    def _do_jobs(self) -> bool:
        """Do what waits, one after the other whatever becomes of each; say whether all of it was done."""
        done = True
        while self._jobs:
            try:
                self._jobs.popleft()()
            except Exception as error:
                self._failed(error, "a job of the learning loop failed")
                done = False
        return done

    def _failed(self, error: Exception, said: str) -> None:
        self.fault = f"{type(error).__name__}: {error}"
        _LOG.error(said, exc_info=error)

    # One step

    def step(self) -> tuple[Event, ...]:
        """Look at the ledger and do what there is to do; return what was done."""
        events = list(self._forget_another_model())
        known = self._experience()
        events += self._watch(known)
        if not events:
            try:
                events += self._settle_champion(known) or self._advance(known)
            except PromotionLost:  # another process was first: what it did stands
                _LOG.info("another process moved an alias first")
        self._refresh()
        return tuple(events)

    def train(self) -> Event | None:
        """Fit a candidate on all that is known and make it the challenger; None where too little is known, or nothing
        comes out that has not been judged already.
        """
        known = self._experience()
        return self._new_candidate(known) if len(known) >= self.settings.least_rows else None

    def verdict(self, version_id: str) -> Verdict:
        """Judge a version by what has come since it was fitted, and change nothing."""
        return self._judged(self._versions.version(version_id), self._experience())

    def _experience(self) -> Experience:
        moves = self._versions.moves(CHAMPION)
        reset = [
            move.created_at for move in moves if move.version_id is None and not move.reason.startswith(_ROLLED_BACK)
        ]
        return read_experience(
            self._ledger,
            self.settings.rows,
            model_fingerprint=self._model_fingerprint,
            schema=self._schema,
            since=reset[-1] if reset else "",
            seen=self._made_for_model,
        )

    def _forget_another_model(self) -> tuple[Event, ...]:
        champion = self._versions.alias(CHAMPION).version_id
        if champion is None or self._fits_model(champion):
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
        if champion.epoch != self._watched_epoch:  # another baseline, from the move on
            self._drift.clear()
            moved = self._versions.moves(CHAMPION)
            since = moved[-1].created_at if moved else ""
            earlier = (int(seq) for seq, at in zip(known.seqs, known.created_at, strict=True) if at <= since)
            self._watched_epoch, self._watched_to = champion.epoch, max(earlier, default=0)
        expected = self._expected(known)
        fired = []
        for i in np.flatnonzero(known.seqs > self._watched_to):
            arm = known.rows.arms[known.taken[i]]
            residual = known.rows.quality[i, known.taken[i]] - expected[i, known.taken[i]]
            window = self._drift.setdefault(arm, AdaptiveWindow())
            if np.isfinite(residual) and window.add(float(residual)):
                fired.append(arm)
        self._watched_to = int(known.seqs[-1])
        if not fired or champion.version_id is None:
            return ()
        half = len(known) // 2
        shifted = shifted_features(known.rows.feature_names, known.rows.features[:half], known.rows.features[half:])
        also = f"; shifted features: {', '.join(sorted(shifted))}" if shifted else ""
        reason = f"{' and '.join(sorted(set(fired)))} no longer does as expected{also}"
        return (self._reset("drift", reason),)

    def _expected(self, known: Experience) -> Floats:
        model = self._champion().model
        if model is not None and set(known.rows.arms) <= set(model.arms):
            columns = [model.arms.index(arm) for arm in known.rows.arms]
            found: Floats = model.estimate(_rows_for(model, known)).p_correct[:, columns]
            return found
        first = known.take(np.arange(len(known)) < self.settings.least_rows)
        return fitted_on(first.rows, first.rows.quality)(known.rows.features)

    def _settle_champion(self, known: Experience) -> list[Event]:
        """Roll back a champion that is shown to be worse than who decided before."""
        champion, previous = self._versions.alias(CHAMPION), self._versions.alias(PREVIOUS).version_id
        if champion.version_id is None:
            return []
        if previous is not None and not self._fits_model(previous):
            previous = None
        before = self._without_champion() if previous is None else self._open(previous)
        since = self._versions.moves(CHAMPION)[-1].created_at
        newer = np.array([at > since for at in known.created_at], dtype=bool)
        bounds = self._bounds(known, newer, champion.version_id, before.policy, attempt=1)
        if bounds.upper >= 0:
            return []
        reason = _with_numbers(f"utility at most {bounds.upper:+.4f} against who decided before", bounds)
        if previous is None:
            self._versions.point(CHAMPION, None, expected_epoch=champion.epoch, reason=f"{_ROLLED_BACK}: {reason}")
            self._versions.set_state(champion.version_id, PolicyState.RETIRED, reason)
        else:
            self._versions.roll_back(expected_epoch=champion.epoch, reason=reason)
        return [Event(_ROLLED_BACK, champion.version_id, reason)]

    def _advance(self, known: Experience) -> list[Event]:
        challenger = self._versions.alias(CHALLENGER).version_id
        if challenger is None:
            return self._maybe_fit(known)
        version = self._versions.version(challenger)
        try:
            fits = self._fits_model(challenger)
        except PolicyFileDamaged as error:
            return [self._reject(version, str(error))]
        if not fits:
            return [self._reject(version, "made for another base model or other features")]
        if version.state is PolicyState.CANDIDATE:
            return self._gate(version, known)
        if version.state is PolicyState.SHADOW:
            return self._shadow(version)
        if version.state is PolicyState.CANARY:
            return self._canary(version, known)
        alias = self._versions.alias(CHALLENGER)  # settled already; whoever did it was stopped before this
        self._versions.point(CHALLENGER, None, expected_epoch=alias.epoch, reason=f"is {version.state}")
        return []

    def _maybe_fit(self, known: Experience) -> list[Event]:
        versions = self._versions.all()
        settled = max((self._versions.history(each.version_id)[-1].created_at for each in versions), default="")
        new = sum(at > settled and seq > self._fitted_to for at, seq in zip(known.created_at, known.seqs, strict=True))
        if len(known) < self.settings.least_rows or (versions and new < self.settings.new_rows):
            return []
        if not np.isfinite(known.rows.quality[:, known.rows.arms.index(AUDITED)]).any():
            return []  # nothing is known of training yet
        event = self._new_candidate(known)
        return [] if event is None else [event]

    def _new_candidate(self, known: Experience) -> Event | None:
        """Fit and publish; None where that gives a policy which has been judged already."""
        content = sealed_for(self._fit(*known.matrix()), self._model_fingerprint, self._schema)
        parent, self._fitted_to = self._versions.alias(CHAMPION).version_id, int(known.seqs[-1])
        version = self._versions.publish(content, parent=parent, trained_to_seq=self._fitted_to)
        if version.state is not PolicyState.CANDIDATE:
            return None
        alias = self._versions.alias(CHALLENGER)
        reason = f"fitted on {len(known)} decisions with known outcomes"
        if alias.version_id != version.version_id:
            self._versions.point(CHALLENGER, version.version_id, expected_epoch=alias.epoch, reason=reason)
        return Event("fitted", version.version_id, reason)

    def _gate(self, version: PolicyVersion, known: Experience) -> list[Event]:
        verdict = self._judged(version, known)
        if verdict.outcome is Outcome.PROMOTE:
            return [self._move(version, PolicyState.SHADOW, verdict)]
        if verdict.outcome is Outcome.REFUSE:
            return [self._reject(version, _told(verdict))]
        if verdict.n_rows >= self.settings.patience_rows:
            return [self._reject(version, f"undecided after {verdict.n_rows} rows; {_told(verdict)}")]
        return []

    def _shadow(self, version: PolicyVersion) -> list[Event]:
        """Let it decide beside the champion; a policy that fails is turned down before anyone depends on it."""
        since = self._versions.history(version.version_id)[-1].created_at
        policy, agreed, n = self._open(version.version_id).policy, 0, 0
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
        since = self._versions.history(version.version_id)[-1].created_at
        n = sum(at > since for at in known.created_at)
        newer = known.seqs > (version.trained_to_seq or 0)
        attempt = self._attempt(version)
        bounds = self._bounds(known, newer, version.version_id, self._champion().policy, attempt=attempt)
        if bounds.upper < 0:
            return [self._reject(version, _with_numbers("rolled back as a canary: shown to be worse", bounds))]
        if n < self.settings.canary_rows:
            return []
        if bounds.lower <= -self.settings.margin:
            said = f"rolled back as a canary: may lose more than {self.settings.margin} a task"
            return [self._reject(version, _with_numbers(said, bounds))]
        reason = _with_numbers(f"held as a canary over {n} known outcomes", bounds)
        epoch = self._versions.alias(CHAMPION).epoch
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
            loaded = self._open(version.version_id)
            earlier, newest = (_sides(known.take(which), loaded, self._champion()) for which in (before, ~before))
        except Exception as error:  # a damaged file, or a policy that cannot decide what was decided before
            unfit = f"{type(error).__name__}: {error}"
            return judge(_nothing(known), _nothing(known), attempt=attempt, rules=self.settings.gate, unfit=unfit)
        return judge(earlier, newest, attempt=attempt, rules=self.settings.gate)

    def _bounds(
        self, known: Experience, newer: npt.NDArray[np.bool_], version_id: str, against: Replayable, *, attempt: int
    ) -> UtilityBounds:
        loaded, other = self._open(version_id), Loaded(against)
        earlier, newest = (_sides(known.take(which), loaded, other) for which in (~newer, newer))
        rules = self.settings.gate
        return utility_bounds(earlier, newest, alpha=alpha_at(attempt, rules.alpha), rules=rules)

    def _attempt(self, version: PolicyVersion) -> int:
        """Return the how-manieth candidate of this ledger it is."""
        return 1 + [each.version_id for each in self._versions.all()].index(version.version_id)

    def _champion(self) -> Loaded:
        alias = self._versions.alias(CHAMPION)
        if alias.version_id is not None and self._fits_model(alias.version_id):
            return self._open(alias.version_id)
        return self._without_champion()

    def _without_champion(self) -> Loaded:
        """Return the stated rule, which explores more from a drift alarm on until there is a new champion."""
        resets = [move.reason for move in self._versions.moves(CHAMPION) if move.version_id is None]
        return self._fallback if resets and resets[-1].startswith("drift") else self._prior

    def _open(self, version_id: str) -> Loaded:
        if version_id not in self._opened:
            self._opened[version_id] = self._load(content_of(self._versions.load(version_id))[1])
        return self._opened[version_id]

    def _fits_model(self, version_id: str) -> bool:
        header, _ = content_of(self._versions.load(version_id))
        return header == _header(self._model_fingerprint, self._schema)

    def _refresh(self) -> None:
        """Let those decide whom the ledger names."""
        with self._refreshing:  # what was read last is used last
            challenger = self._versions.alias(CHALLENGER).version_id
            canary = None
            if challenger is not None and self._versions.version(challenger).state is PolicyState.CANARY:
                canary = self._open(challenger).policy
            self.policy.use(self._champion().policy, canary, self.settings.canary_share)


def _sides(known: Experience, candidate: Loaded, incumbent: Loaded) -> Sides:
    return Sides(
        known.rows,
        _propensities(candidate.policy, known),
        _propensities(incumbent.policy, known),
        _helps(candidate.model, known),
        _helps(incumbent.model, known),
    )


def _nothing(known: Experience) -> Sides:
    none = known.take(np.zeros(len(known), dtype=bool))
    return Sides(none.rows, none.rows.known_p, none.rows.known_p)


def _propensities(policy: Replayable, known: Experience) -> Floats:
    """Return what a policy would have drawn each arm with, (n, n_arms); 0 for an arm that was not offered."""
    found = np.zeros(known.offered.shape)
    for i, features in enumerate(known.features):
        offered = np.flatnonzero(known.offered[i])
        found[i, offered] = policy.propensities(features, [known.rows.arms[j] for j in offered])
    return found


def _helps(model: GainModel | None, known: Experience) -> Floats | None:
    if model is None or "ttt" not in model.arms or not len(known):
        return None
    gains: Floats = np.clip(model.estimate(_rows_for(model, known)).gain[:, model.arms.index("ttt")], 0.0, 1.0)
    return gains


def _rows_for(model: GainModel, known: Experience) -> Floats:
    return np.stack([feature_row(features, model.feature_names) for features in known.features])


def _header(model_fingerprint: str | None, schema: str) -> bytes:
    return _HEADER + json.dumps({"features": schema, "model": model_fingerprint}, sort_keys=True).encode()


def sealed_for(content: bytes, model_fingerprint: str | None, schema: str) -> bytes:
    """Return a policy's content under a line that says for which base model and features it was made."""
    return _header(model_fingerprint, schema) + b"\n" + content


def content_of(sealed: bytes) -> tuple[bytes, bytes]:
    """Return what `sealed_for` put before a policy's content, and the content."""
    header, _, content = sealed.partition(b"\n")
    return header, content


def _told(verdict: Verdict) -> str:
    return f"{verdict.outcome}: {'; '.join(verdict.reasons)} {verdict.as_json()}"


def _with_numbers(said: str, bounds: UtilityBounds) -> str:
    numbers = {
        "utility": bounds.estimate.value, "lower": bounds.lower, "upper": bounds.upper, "n_rows": bounds.estimate.n,
        "effective_n": bounds.estimate.effective_n,
    }  # fmt: skip
    return f"{said} {json.dumps(numbers)}"
