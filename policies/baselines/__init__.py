"""Policies to compare with, one a module, all under the same contract. `AlwaysArm` and `LooThreshold` belong to them.

What a baseline cannot do is said by its class: the oracles see what came of every arm and decide matrices only.
"""

from policies.baselines.beta_thompson import BetaThompson
from policies.baselines.budgeted_oracle import BudgetedOracle
from policies.baselines.cost_matched_shuffle import CostMatchedShuffle
from policies.baselines.family_oracle import FamilyOracle
from policies.baselines.feature_threshold import FeatureThreshold, entropy_threshold, loo_exact_threshold, vote_cascade
from policies.baselines.linucb import LinUcb
from policies.baselines.nearest_neighbours import NearestNeighbours
from policies.baselines.standardising import Standardising
from policies.baselines.task_oracle import TaskOracle
from policies.baselines.uniform import Uniform

__all__ = [
    "BetaThompson",
    "BudgetedOracle",
    "CostMatchedShuffle",
    "FamilyOracle",
    "FeatureThreshold",
    "LinUcb",
    "NearestNeighbours",
    "Standardising",
    "TaskOracle",
    "Uniform",
    "entropy_threshold",
    "loo_exact_threshold",
    "vote_cascade",
]
