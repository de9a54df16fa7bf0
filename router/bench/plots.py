"""The plots of a report, each a PNG. Needs matplotlib, which comes with the extra [report]."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from policies.outcome_matrix import OutcomeMatrix
from router.bench.contenders import unit_of
from router.bench.errors import PlotsUnavailable
from router.bench.evaluation import curve_of, only_strong
from router.bench.metrics import equal_mass_bins
from router.bench.replay import Judged
from router.bench.stream import Course, Stream, thinned

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

# colours that those who do not see red and green apart can tell (Okabe and Ito 2008), the subject's first
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C6D1F", "#4D4D4D")
_DASHES = ("-", "--", "-.", ":")
_GREY = "#6B6B6B"


def require_plots() -> None:
    """Make sure that plots can be drawn, before anything is computed for them.

    Raises:
        PlotsUnavailable: they cannot.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise PlotsUnavailable from None


def frontier(matrix: OutcomeMatrix, judged: Sequence[Judged], subject: str) -> bytes:
    """Draw quality against cost: the curve of every score, the policies at their prices, single arms and oracles."""
    figure, axes = _figure("Quality against cost", "cost, as a part of always training", "mean quality")
    order = sorted((each for each in judged if not each.is_oracle), key=lambda each: each.name != subject)
    curves = [each for each in order if each.scores is not None]
    for i, each in enumerate(curves):
        curve = curve_of(each, matrix)
        width = 2.6 if each.name == subject else 1.4
        axes.plot(curve.cost[0], curve.quality[0], color=_COLOURS[i % len(_COLOURS)], lw=width,
                  ls=_DASHES[i // len(_COLOURS) % 4], label=each.name, zorder=3 + 2 * (i == 0))  # fmt: skip
    for each in order:
        cost, quality = _points(matrix, each)
        if len(set(np.round(cost, 9))) == 1:
            axes.plot(cost[:1], quality[:1], "o", ms=7, color="black", zorder=6)
            axes.annotate(
                _plain(each.name), (cost[0], quality[0]), xytext=(6, -11), textcoords="offset points", fontsize=8
            )
        elif each.name == subject or each.scores is None:
            axes.plot(cost, quality, "s", ms=5, mfc="white", color=_COLOURS[0] if each.name == subject else _COLOURS[7],
                      label=f"{each.name}, all arms, by price", zorder=7)  # fmt: skip
    for each, marker in zip((each for each in judged if each.is_oracle), "*Pdv^", strict=False):
        cost, quality = _points(matrix, each)
        axes.plot(cost, quality, marker, ls=":", lw=1, ms=6, color=_GREY, label=f"{each.name}, by price", zorder=2)
    if curves:
        curve = curve_of(curves[0], matrix)
        axes.plot(curve.cost[0][[0, -1]], curve.quality[0][[0, -1]], color=_GREY, lw=1, zorder=1, label="at random")
    figure.set_size_inches(figure.get_figwidth(), 1.5 * figure.get_figheight())  # room for the legend, off the curves
    figure.legend(loc="outside lower center", ncols=3, fontsize=7, frameon=False)
    return _png(figure)


def reliability(matrix: OutcomeMatrix, judged: Judged) -> bytes:
    """Draw how often only `ttt` was right against how probable that was said to be, in bins of equal mass."""
    assert judged.p_strong_only is not None  # asked of those that say so
    p, happened = judged.p_strong_only, only_strong(matrix).astype(np.float64)
    bins = equal_mass_bins(p)
    means = np.array(
        [[p[bins == k].mean(), happened[bins == k].mean(), (bins == k).sum()] for k in range(bins.max() + 1)]
    )
    spread = 1.96 * np.sqrt(np.maximum(means[:, 1] * (1 - means[:, 1]), 1e-9) / means[:, 2])
    figure, axes = _figure(f"Reliability of {judged.name}", "said: P(only training solves it)", "came true")
    top = float(max(means[:, :2].max(), 0.1)) * 1.1
    axes.plot([0, top], [0, top], color=_GREY, lw=1, label="calibrated")
    axes.errorbar(means[:, 0], means[:, 1], yerr=spread, fmt="o-", lw=1.4, ms=5, capsize=2, color=_COLOURS[0],
                  label=f"{len(means)} bins of equal mass, 95 % intervals")  # fmt: skip
    axes.set_xlim(0, top)
    axes.set_ylim(-0.02 * top, top)
    _legend(axes, "upper left")
    return _png(figure)


def regret(stream: Stream, courses: Sequence[Course]) -> bytes:
    """Draw the regret that adds up over the stream, with the two shifts."""
    figure, axes = _figure("Regret over the stream", "tasks", "regret so far")
    for i, course in enumerate(courses):
        places, values = thinned(course.cumulative_regret)
        axes.plot(places, values, color=_COLOURS[i % len(_COLOURS)], lw=2.2 if i == 0 else 1.4,
                  ls=_DASHES[i // len(_COLOURS) % 4], label=course.name)  # fmt: skip
    for place, said in ((stream.family_shift, "other families"), (stream.price_shift, "another price")):
        axes.axvline(place, color=_GREY, lw=1, ls=":")
        axes.annotate(said, (place, 1.0), xycoords=("data", "axes fraction"), xytext=(4, -12),
                      textcoords="offset points", fontsize=8, color=_GREY)  # fmt: skip
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, len(stream.rows))
    _legend(axes, "upper left")
    return _png(figure)


def gain_by_kind(gains: Mapping[str, tuple[float, int]], n_shown: int = 40) -> bytes:
    """Draw the mean gain of training in each family; of many, those of the largest and of the smallest gain."""
    items = list(gains.items())
    if len(items) > n_shown:
        items = items[: n_shown // 2] + items[-(n_shown // 2) :]
    left_out = len(gains) - len(items)
    figure, axes = _figure("Gain of training by kind of task", "mean quality of ttt minus that of icl", "",
                           height=1.6 + 0.2 * len(items))  # fmt: skip
    values = [gain for _, (gain, _) in items]
    axes.barh(range(len(items)), values, color=[_COLOURS[0] if value >= 0 else _COLOURS[5] for value in values])
    axes.set_yticks(range(len(items)), [_plain(f"{name} ({n})") for name, (_, n) in items], fontsize=7)
    axes.invert_yaxis()
    axes.set_ylim(len(items) - 0.4, -0.6)
    axes.axvline(0, color="black", lw=0.8)
    axes.grid(axis="y", visible=False)
    note = "in brackets: tasks" + (f"; {left_out} kinds between them are left out" if left_out else "")
    axes.annotate(note, (1, 1), xycoords="axes fraction", xytext=(0, 4), textcoords="offset points", fontsize=7,
                  color=_GREY, ha="right")  # fmt: skip
    return _png(figure)


def _points(matrix: OutcomeMatrix, judged: Judged) -> tuple[Floats, Floats]:
    unit = unit_of(matrix)
    points = [
        (judged.mean_cost_s(price).mean() / unit, judged.mean_quality(matrix, price).mean()) for price in judged.choices
    ]
    cost, quality = np.array(sorted(points)).T
    return cost, quality


def _figure(title: str, x: str, y: str, height: float = 4.6) -> tuple[Any, Any]:
    require_plots()
    from matplotlib.figure import Figure  # and not pyplot: no window, and nothing kept between plots

    figure = Figure(figsize=(7.6, height), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=11, loc="left")
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(lw=0.4, alpha=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _plain(text: str) -> str:
    """Take the meaning from what would begin a formula: names may come from anybody's logs."""
    return text.replace("$", r"\$")


def _legend(axes: Any, place: str) -> None:
    axes.legend(loc=place, fontsize=7, frameon=True, framealpha=0.9, edgecolor="none")


def _png(figure: Any) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})  # the same figures give the same bytes
    return content.getvalue()
