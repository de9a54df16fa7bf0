"""The learned policy: the arm whose expected gain is worth its cost, with chance where the margin is small.

Utility of an arm = P(icl correct) + its expected gain over `icl` - price * cost. What gains are expected is the model's
business, what time costs is that of `Pricing`, how utilities become probabilities that of `exploration`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np

from policies.decision import CAREFUL, TRAINED, Arm, Decision, drawn, first_available
from policies.difficulty import p_icl_correct
from policies.errors import ArmUnavailable, PolicySettingRefused
from policies.exploration import annealed, best, margin_shaped
from policies.feature_values import feature_row
from policies.features import stage_wanted
from policies.gain_model import PRIOR
from policies.replay import feature_columns, measured

if TYPE_CHECKING:
    import numpy.typing as npt

    from policies.feature_values import FeatureValues
    from policies.gain_model import Contribution, Estimates, GainModel
    from policies.gain_models.past_tasks import PastTask
    from policies.outcome_matrix import OutcomeMatrix
    from policies.pricing import Pricing
    from policies.stages import Stage

    Floats = npt.NDArray[np.float64]
    Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class WeighedArm:
    """What speaks for one arm on one task."""

    arm: str
    gain: float | None  # expected quality above that of `icl`; None: the model does not know the arm
    gain_std: float | None
    cost: float  # in mean costs of `ttt`, beyond the answer of `icl`
    utility: float | None  # P(icl correct) + gain - price * cost
    propensity: float


@dataclass(frozen=True, slots=True)
class Weighing:
    """How the arms compare on one task."""

    arms: tuple[WeighedArm, ...]  # in the order in which they were given
    favourite: str
    p_icl: float  # P(icl correct)
    price: float
    rival: str | None  # the best of the others; None: there is none that the model knows
    margin: float  # utility of the favourite above that of the rival; 0 without one
    flip_price: float | None  # the nearest price at which another arm is as good; None: there is none
    flips_to: str | None

    def of(self, arm: str) -> WeighedArm:
        return next(each for each in self.arms if each.arm == arm)


@dataclass(frozen=True, slots=True)
class LearnedPolicy:
    """Take the arm of the highest expected utility, and explore where others come close.

    An arm that the model does not know is only explored.
    """

    model: GainModel
    model_id: str  # what tells this fit from every other, such as the digest of its file
    pricing: Pricing
    explore: float = 0.05  # probability that the other arms keep together; 0: nothing is left to chance
    temperature: float = 0.05  # utility; margins well above it are hardly explored beyond the floor
    n_outcomes: int = 0  # outcomes the model has learned from: the more, the colder

    def __post_init__(self) -> None:
        if not 0.0 <= self.explore <= 0.5:
            raise PolicySettingRefused("explore", f"got {self.explore}", remedy="Give a probability from 0 to 0.5.")
        if not 0.0 <= self.temperature < float("inf"):
            raise PolicySettingRefused("temperature", f"got {self.temperature}", remedy="Give a number from 0.")
        if self.n_outcomes < 0:
            raise PolicySettingRefused("n_outcomes", f"got {self.n_outcomes}", remedy="Give a count from 0.")

    @property
    def name(self) -> str:
        return "learned"

    @property
    def version(self) -> str:
        chance = f"explore={self.explore},temperature={self.temperature},outcomes={self.n_outcomes}"
        return f"1:model={self.model.name}-{self.model_id},{self.pricing.described()},{chance}"

    def at_price(self, price: float) -> Self:
        """Return the same policy at another price of time."""
        return replace(self, pricing=self.pricing.at(price))

    def propensities(self, features: FeatureValues, arms: Sequence[str]) -> tuple[float, ...]:
        """Return a softmax over utilities with a floor of explore / (n - 1) for every arm."""
        by_arm = {arm.arm: arm.propensity for arm in self.weigh(features, arms).arms}
        return tuple(by_arm[arm] for arm in arms)

    def decide(self, features: FeatureValues, rng: np.random.Generator, arms: Sequence[str]) -> Decision:
        weighing = self.weigh(features, arms)
        return drawn(
            self,
            [weighed.propensity for weighed in weighing.arms],
            rng,
            arms,
            favourite=weighing.favourite,
            reason=self._reason(weighing, features),
            difficulty=1.0 - weighing.p_icl,
        )

    def stages_wanted(self, features: FeatureValues) -> Stage | None:
        """Ask for the stages whose features the model reads."""
        return stage_wanted(self.model.feature_names, features)

    def choose(self, matrix: OutcomeMatrix) -> Floats:
        """Return the propensities of every row at once, (n_rows, n_arms); 0 for arms that were not measured there."""
        estimates = self.model.estimate(feature_columns(matrix, self.model.feature_names))
        costs = self.pricing.matrix_costs(matrix)
        return self._propensities(estimates, costs, matrix.arms, measured(matrix))[0]

    def score(self, features: FeatureValues) -> float:
        """Return the expected gain of `ttt`, whatever it costs."""
        estimates = self.model.estimate(feature_row(features, self.model.feature_names)[None, :])
        return float(self._gain_of_training(estimates)[0])

    def scores(self, matrix: OutcomeMatrix) -> Floats:
        """Return the expected gain of `ttt` in each row, whatever it costs."""
        return self._gain_of_training(self.model.estimate(feature_columns(matrix, self.model.feature_names)))

    def weigh(self, features: FeatureValues, arms: Sequence[str]) -> Weighing:
        """Compare `arms` on one task.

        Raises:
            ArmUnavailable: `arms` is empty.
        """
        if not arms:
            raise ArmUnavailable(Arm.ICL, arms)
        estimates = self.model.estimate(feature_row(features, self.model.feature_names)[None, :])
        costs = self.pricing.costs(features, arms)[None, :]
        available = np.ones(costs.shape, dtype=np.bool_)
        propensities, utilities, favourites = self._propensities(estimates, costs, arms, available)
        gains, stds = self._by_arm(estimates.gain, arms)[0], self._by_arm(estimates.gain_std, arms)[0]
        p_icl = _p_icl(estimates, features)
        weighed = tuple(
            WeighedArm(
                arm=str(arm),
                gain=None if np.isnan(gains[j]) else float(gains[j]),
                gain_std=None if np.isnan(stds[j]) else float(stds[j]),
                cost=float(costs[0, j]),
                utility=None if np.isnan(gains[j]) else float(p_icl + utilities[0, j]),
                propensity=float(propensities[0, j]),
            )
            for j, arm in enumerate(arms)
        )
        return _compared(weighed, weighed[favourites[0]], p_icl=p_icl, price=self.pricing.price)

    def contributions(self, features: FeatureValues, arm: str) -> tuple[Contribution, ...]:
        """Return what each feature adds to the expected gain of `arm`, the largest first.

        Raises:
            ArmUnavailable: the model does not know the arm.
        """
        if arm not in self.model.arms:
            raise ArmUnavailable(arm, self.model.arms)
        return self.model.explain(feature_row(features, self.model.feature_names), arm)

    @property
    def stage(self) -> str:
        """How much has been learned: the name of the model, `PRIOR` where nothing has."""
        return self.model.name

    def nearest(self, features: FeatureValues, k: int = 3) -> tuple[PastTask, ...]:
        """Return the tasks the model was fitted on that are most like this one."""
        return self.model.nearest(feature_row(features, self.model.feature_names), k)

    def percentiles(self, features: FeatureValues) -> dict[str, float]:
        """Return the share of the tasks the model was fitted on that lie below this one, by feature."""
        return self.model.percentiles(feature_row(features, self.model.feature_names))

    def _propensities(
        self, estimates: Estimates, costs: Floats, arms: Sequence[str], available: Mask
    ) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
        """Return propensities, utilities above P(icl correct) (-inf: not known), and the favourite's column."""
        order = np.argsort(np.array([str(arm) for arm in arms]))  # so that no sum or tie depends on the order of arms
        known = self._by_arm(estimates.gain, arms)[:, order] - self.pricing.price * costs[:, order]
        utilities = np.where(np.isnan(known), -np.inf, known)
        names, there = [arms[j] for j in order], available[:, order]
        for row in np.flatnonzero(~np.isfinite(np.where(there, utilities, -np.inf)).any(axis=1)):
            possible = [arm for arm, is_there in zip(names, there[row], strict=True) if is_there]
            utilities[row, names.index(first_available(CAREFUL, possible))] = 0.0  # the model knows none of them
        favourites = best(utilities, there, costs[:, order])
        temperature = annealed(self.temperature, self.n_outcomes)
        shaped = margin_shaped(utilities, there, favourites, explore=self.explore, temperature=temperature)
        back = np.argsort(order)
        return shaped[:, back], utilities[:, back], order[favourites]

    def _by_arm(self, of_model: Floats, arms: Sequence[str]) -> Floats:
        """Return the model's columns in the order of `arms`; NaN for an arm it does not know."""
        columns = np.full((len(of_model), len(arms)), np.nan)
        for j, arm in enumerate(arms):
            if arm in self.model.arms:
                columns[:, j] = of_model[:, self.model.arms.index(arm)]
        return columns

    def _gain_of_training(self, estimates: Estimates) -> Floats:
        trained = first_available(TRAINED, [arm for arm in self.model.arms if arm != Arm.ICL])
        return np.nan_to_num(self._by_arm(estimates.gain, [trained])[:, 0], nan=-1.0)

    def _reason(self, weighing: Weighing, features: FeatureValues) -> str:
        """Say what decided it, how near it was and at which price it flips."""
        parts = [_verdict(weighing)]
        trained = weighing.rival if weighing.favourite == Arm.ICL else weighing.favourite
        if trained in self.model.arms and trained != Arm.ICL:
            decisive = max(self.contributions(features, trained), key=lambda each: abs(each.gain), default=None)
            parts += [] if decisive is None else [_contribution(decisive, trained)]
        if weighing.flip_price is not None:
            side = "above" if weighing.flip_price >= weighing.price else "below"
            parts.append(f"{side} a price of {weighing.flip_price:.3g} it would be {weighing.flips_to}")
        elif weighing.rival is not None:
            parts.append("so it is at any price")
        if self.stage == PRIOR:
            parts.append("by the prior alone: nothing has been learned here yet")
        if self.explore == 0.0:
            parts.append("explore=0, so not evaluable off-policy")
        return "; ".join(parts)


def _p_icl(estimates: Estimates, features: FeatureValues) -> float:
    """Return the model's P(icl correct); where it has none, the estimate from before anything was learned."""
    p = estimates.p_correct[0, estimates.arms.index(Arm.ICL)] if Arm.ICL in estimates.arms else np.nan
    return p_icl_correct(features) if np.isnan(p) else float(np.clip(p, 0.0, 1.0))


def _compared(arms: tuple[WeighedArm, ...], favourite: WeighedArm, *, p_icl: float, price: float) -> Weighing:
    others = [arm for arm in arms if arm.utility is not None and arm is not favourite]
    if favourite.utility is None or favourite.gain is None or not others:
        return Weighing(arms, favourite.arm, p_icl, price, None, 0.0, None, None)
    rival = min(others, key=lambda arm: (-(arm.utility or 0.0), arm.cost, arm.arm))
    flips = []
    for other in others:
        dearer, better = favourite.cost - other.cost, favourite.gain - (other.gain or 0.0)
        if dearer != 0.0 and better / dearer >= 0.0:
            flips.append((abs(better / dearer - price), better / dearer, other.arm))
    _, flip_price, flips_to = min(flips, default=(0.0, None, None))
    margin = favourite.utility - (rival.utility or 0.0)
    return Weighing(arms, favourite.arm, p_icl, price, rival.arm, margin, flip_price, flips_to)


def _verdict(weighing: Weighing) -> str:
    favourite = weighing.of(weighing.favourite)
    if favourite.gain is None:
        return f"{favourite.arm}: the model knows none of these arms"
    if favourite.arm == Arm.ICL:
        said = f"icl: P(correct) {weighing.p_icl:.2f}"
    else:
        said = f"{favourite.arm}: {_gain(favourite)} over icl for {_cost(favourite, weighing.price)}"
    if weighing.rival is None:
        return f"{said}; no other arm that the model knows is available"
    rival = weighing.of(weighing.rival)
    promised = "" if rival.arm == Arm.ICL else f", which promises {_gain(rival)} for {_cost(rival, weighing.price)}"
    return f"{said}; ahead of {rival.arm} by {weighing.margin:.3f}{promised}"


def _gain(arm: WeighedArm) -> str:
    spread = "" if arm.gain_std is None else f" ± {arm.gain_std:.2f}"
    return f"an expected gain of {arm.gain or 0.0:.2f}{spread}"


def _cost(arm: WeighedArm, price: float) -> str:
    return f"{arm.cost:.2f} times what training costs on average, at a price of {price:g}"


def _contribution(contribution: Contribution, arm: str) -> str:
    value = "unknown" if contribution.value is None else f"{contribution.value:.3g}"
    typical = f"typically {contribution.typical:.3g}"
    side = "for" if contribution.gain >= 0.0 else "against"
    return (
        f"what weighs most, {contribution.feature} {value} ({typical}), speaks {side} {arm} ({contribution.gain:+.2f})"
    )
