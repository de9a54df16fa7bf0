"""The watch for drift: what comes of decisions, compared with what was expected of them while one champion decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from policies.drift import AdaptiveWindow, shifted_features
from policies.features import ASKED_FOR
from policies.off_policy import fitted_on
from policies.policy_versions import CHAMPION
from router.hindsight import rows_for
from router.learning_rows import Experience

if TYPE_CHECKING:
    import numpy.typing as npt

    from policies.gain_model import GainModel
    from policies.policy_versions import PolicyVersions
    from policies.records import Alias

    Floats = npt.NDArray[np.float64]


class DriftWatch:
    """Adaptive windows over what was missed, one for each arm. A move of the champion begins them anew."""

    def __init__(self, versions: PolicyVersions) -> None:
        self._versions = versions
        self._windows: dict[str, AdaptiveWindow] = {}
        self._epoch = -1  # of the champion that the windows belong to
        self._from = 0  # number of the last decision before the champion's time
        self._compared: set[int] = set()  # decisions since then whose outcome has been looked at

    def alarm(self, known: Experience, champion: Alias, model: GainModel | None, *, n_first: int) -> str | None:
        """Look at what has become known since the last call; return what no longer does as expected, None: all does.

        Args:
            model: behind the champion, whose estimates are expected; None, or one that lacks an arm: what the first
                `n_first` decisions teach.
        """
        if champion.epoch != self._epoch:
            self._begin(known, champion)
        fired = []
        residuals = (known.rows.quality - _expected(known, model, n_first))[np.arange(len(known)), known.taken]
        for i in np.flatnonzero((known.seqs > self._from) & np.isfinite(residuals)):
            seq, arm = int(known.seqs[i]), known.rows.arms[known.taken[i]]
            if seq in self._compared:
                continue
            self._compared.add(seq)
            if self._windows.setdefault(arm, AdaptiveWindow()).add(float(residuals[i])):
                fired.append(arm)
        if not fired:
            return None
        shifted = _shifted(known)
        also = f"; shifted features: {', '.join(sorted(shifted))}" if shifted else ""
        return f"{' and '.join(sorted(set(fired)))} no longer does as expected{also}"

    def _begin(self, known: Experience, champion: Alias) -> None:
        self._windows.clear()
        self._compared.clear()
        moved = self._versions.moves(CHAMPION)
        since = moved[-1].created_at if moved else ""
        earlier = (int(seq) for seq, at in zip(known.seqs, known.created_at, strict=True) if at <= since)
        self._epoch, self._from = champion.epoch, max(earlier, default=0)


def _shifted(known: Experience) -> dict[str, float]:
    """Return the features that are others in the later half; what was not asked for of every task says which policies
    decided, not what came in.
    """
    names, features, half = known.rows.feature_names, known.rows.features, len(known) // 2
    told = [i for i, name in enumerate(names) if name not in ASKED_FOR or not np.isnan(features[:, i]).any()]
    return shifted_features(tuple(names[i] for i in told), features[:half, told], features[half:, told])


def _expected(known: Experience, model: GainModel | None, n_first: int) -> Floats:
    """Return the quality that was expected of every arm, (n, n_arms)."""
    if model is not None and set(known.rows.arms) <= set(model.arms):
        columns = [model.arms.index(arm) for arm in known.rows.arms]
        found: Floats = model.estimate(rows_for(model, known)).p_correct[:, columns]
        return found
    first = known.take(np.arange(len(known)) < n_first)
    return fitted_on(first.rows, first.rows.quality)(known.rows.features)
