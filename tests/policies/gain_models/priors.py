"""A prior of two features, so that what is learned from a matrix of six can be seen."""

from __future__ import annotations

from typing import Any

import numpy as np

from policies import Arm
from policies.gain_models import LearnedGainModel
from policies.gain_models.fitting import fit_gain_model
from policies.gain_models.heads import Head, HeadKind, heads_of
from policies.gain_models.prior import Prior
from policies.gain_models.scaling import Scaler
from policies.outcome_matrix import OutcomeMatrix


def fitted(kind: str, matrix: OutcomeMatrix, **given: Any) -> LearnedGainModel:
    return fit_gain_model(kind, matrix, **{"prior": two_signals(), **given})


def two_signals() -> Prior:
    """A prior of round numbers, in log-odds, on two signals of the probe.

    The better the demonstrations are answered when held out and the surer the answer, the likelier every arm is right.
    """
    heads = {  # intercept at the average task, then per standard deviation of each feature
        Head(HeadKind.CORRECT, Arm.ZERO_SHOT): (-1.5, 0.4, 0.6),
        Head(HeadKind.CORRECT, Arm.ICL): (-0.2, 1.2, 1.0),
        Head(HeadKind.CORRECT, Arm.ICL_VOTE): (0.0, 1.2, 1.0),
        Head(HeadKind.CORRECT, Arm.TTT_SHORT): (0.3, 1.0, 0.7),
        Head(HeadKind.CORRECT, Arm.TTT): (0.5, 0.9, 0.6),
        Head(HeadKind.ONLY, Arm.ZERO_SHOT): (-3.0, -0.3, -0.5),
        Head(HeadKind.ONLY_ICL, Arm.ZERO_SHOT): (-1.0, 0.6, 0.4),
        Head(HeadKind.ONLY, Arm.ICL_VOTE): (-2.6, -0.4, -0.6),
        Head(HeadKind.ONLY_ICL, Arm.ICL_VOTE): (-3.2, 0.0, 0.0),
        Head(HeadKind.ONLY, Arm.TTT_SHORT): (-1.7, -0.8, -0.6),
        Head(HeadKind.ONLY_ICL, Arm.TTT_SHORT): (-3.2, 0.0, 0.0),
        Head(HeadKind.ONLY, Arm.TTT): (-1.5, -0.9, -0.7),
        Head(HeadKind.ONLY_ICL, Arm.TTT): (-3.2, 0.0, 0.0),
    }
    arms = tuple(arm.value for arm in Arm)
    scaler = Scaler(center=np.array([0.5, 0.6]), scale=np.array([0.35, 0.3]), missing_share=np.zeros(2))
    coef = np.array([[*heads[head], 0.0, 0.0] for head in heads_of(arms)])
    return Prior(("loo_exact_share", "answer_confidence"), arms, scaler, coef, "round numbers")
