"""Gain models: calibrated chances per arm and direct gains, from a prior through logistic regression to boosted trees.

What a decision needs is here and loads no scikit-learn. Fitting is in `policies.gain_models.fitting`, the learners as
scikit-learn estimators in `policies.gain_models.estimators`.
"""

from policies.gain_models.files import as_bytes, model_of
from policies.gain_models.model import LearnedGainModel, Provenance
from policies.gain_models.past_tasks import PastTask, nearest
from policies.gain_models.prior import Prior, shipped_prior

__all__ = [
    "LearnedGainModel",
    "PastTask",
    "Prior",
    "Provenance",
    "as_bytes",
    "model_of",
    "nearest",
    "shipped_prior",
]
