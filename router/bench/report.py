"""The report: what routing is worth on an outcome matrix, as a page of Markdown with plots and as one HTML file.

Made by one command from frozen matrices; nothing in it is written by hand. What is not beaten is said first.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from policies.outcome_matrix import OutcomeMatrix
from policies.outcome_splits import Split, family_folds, set_folds, task_folds, task_groups
from router.bench import plots
from router.bench.bootstrap import Interval, Resampling, interval
from router.bench.contenders import STRONG, WEAK, Contender, unit_of
from router.bench.evaluation import (
    ALPHA,
    PRICE,
    Compared,
    choice_draws,
    comparisons,
    curve_of,
    feature_aurocs,
    gain_by_family,
    ranking_draws,
    set_figures,
)
from router.bench.metrics import aiq, apgr_expected, ibc_lift, pareto_distance
from router.bench.replay import (
    PRICES,
    REPEAT_RATES,
    Judged,
    regret_rates,
    replay,
    transfer,
    with_repeats,
    with_shared_training,
)
from router.bench.shipped_contenders import learner
from router.bench.stream import (
    EVERY,
    Course,
    Stream,
    ahead_after_shift,
    best_fixed,
    frozen,
    learning,
    recovery_interval,
    stream_of,
    stream_of_new_tasks,
    tasks_to_recover,
)
from router.learning import LearningSettings

if TYPE_CHECKING:
    import numpy.typing as npt

    from router.bench.evaluation import Draws

    Floats = npt.NDArray[np.float64]
    ThresholdRule = Callable[[float, Floats, npt.NDArray[np.bool_]], float]  # rate, scores, regrets -> threshold

N_FOLDS = 5
LAMBDAS = (0.05, 0.1, 0.2, 0.5)
REGRET_RATES = (0.05, 0.1)
N_FEATURES_SHOWN = 15
WORTH_ROUTING = 0.05  # n01 - n10 below which there is nothing to route
WANTED_AUROC = 0.8
BEATS_FEATURE = 0.85  # AUROC of one feature from which a learner must justify itself by more than ranking


_Run = tuple[Stream, tuple[Course, ...]]  # how the learner, the same frozen and the best single arm fared on a stream


@dataclass(frozen=True, slots=True)
class Plot:
    """One plot of a report."""

    name: str  # of its file, without the ending
    caption: str
    png: bytes


@dataclass(frozen=True, slots=True)
class Report:
    """A page and its plots; `PLOT name` on a line of its own is where a plot belongs."""

    text: str
    plots: tuple[Plot, ...]

    def markdown(self, folder: str) -> str:
        """Return the page with links to the plots in `folder`."""
        return self._with(lambda plot: f"![{plot.caption}]({folder}/{plot.name}.png)")

    def html(self) -> str:
        """Return the page as one file that needs nothing else: the plots are inside."""
        from markdown_it import MarkdownIt

        page = self._with(
            lambda plot: f"![{plot.caption}](data:image/png;base64,{base64.b64encode(plot.png).decode()})"
        )
        return _PAGE.format(body=MarkdownIt("commonmark", {"html": False}).enable("table").render(page))

    def write(self, out: Path, folder: Path) -> list[Path]:
        """Write the Markdown to `out`, the plots and `report.html` into `folder`; return all that was written."""
        folder.mkdir(parents=True, exist_ok=True)
        out.parent.mkdir(parents=True, exist_ok=True)
        files = [folder / f"{plot.name}.png" for plot in self.plots]
        for file, plot in zip(files, self.plots, strict=True):
            file.write_bytes(plot.png)
        linked = folder.relative_to(out.parent).as_posix() if folder.is_relative_to(out.parent) else folder.as_posix()
        out.write_text(self.markdown(linked), encoding="utf-8")
        (folder / "report.html").write_text(self.html(), encoding="utf-8")
        return [out, folder / "report.html", *files]

    def _with(self, shown: Callable[[Plot], str]) -> str:
        text = self.text
        for plot in self.plots:
            text = text.replace(f"PLOT {plot.name}", shown(plot))
        return text


def make_report(
    matrix: OutcomeMatrix,
    contenders: Sequence[Contender],
    *,
    subject: str,
    fit_on: OutcomeMatrix | None = None,
    n_draws: int = 10_000,
    n_streams: int = 5,
    in_streams: tuple[Contender, Contender] | None = None,
    seed: int = 0,
    about: Sequence[str] = (),
    threshold_rule: ThresholdRule | None = None,
    progress: Callable[[str, int, int], None] = lambda name, done, of: None,
) -> Report:
    """Replay every contender on the matrix and say what came of it.

    Args:
        subject: the contender that is compared with all others; it must rank tasks. Where it does not learn, splits are
            tried with the first contender that does.
        fit_on: outcomes of other tasks, which every policy is fitted on besides the other families of the matrix,
            K-fold; None: on those alone. Either way it is judged on families that it has not seen.
        n_streams: of each kind, for the learner in a stream that changes; a minute or two each. 0: that part is left
            out.
        in_streams: what learns there and what it is when frozen; None: what the learning loop fits, and that without
            exploring.
        about: lines on where the outcomes come from.
        threshold_rule: chooses the threshold of a bound on regret; None: that part is left out.
        progress: told of (what, contenders done, contenders in all).

    Raises:
        OutcomesRefused: the matrix cannot be replayed.
    """
    rng = np.random.default_rng(seed)
    matrix = matrix.measured()
    splits = family_folds(matrix, N_FOLDS, rng)
    resampling = Resampling.of(task_groups(matrix), n_draws=n_draws, seed=seed)
    judged, rankings = [], {}
    for i, each in enumerate(contenders):
        judged.append(replay(each, matrix, splits, prices=sorted({*PRICES, *LAMBDAS}), fit_on=fit_on))
        rankings[each.name] = ranking_draws(judged[-1], matrix, resampling)
        progress("contenders", i + 1, len(contenders))
    choices = choice_draws(judged, matrix, resampling)
    by_name = {each.name: each for each in judged}
    oracles = {each.name for each in judged if each.is_oracle}
    compared = comparisons(subject, rankings, choices, oracles=oracles)
    asked = next(each for each in contenders if each.name == subject)
    fitted = next(each for each in (asked, *contenders) if each.learns)  # where the subject is what it is, another
    runs: list[_Run] = []
    for draw in [stream_of] * n_streams + [stream_of_new_tasks] * n_streams:
        runs.append(_run(draw(matrix, rng=rng), in_streams or (learner(), learner(explore=0.0)), rng))
        progress("streams", len(runs), 2 * n_streams)
    drawn = _plots(matrix, judged, by_name[subject], runs[:1])
    parts = [
        "# Routing: what it is worth",
        _made_from(matrix, fit_on, about, n_draws),
        _what_there_is(matrix, n_draws),
        _single_features(feature_aurocs(matrix, resampling)),
        _verdict(subject, compared, oracles, n_draws),
        "PLOT frontier",
        _ranking_table(matrix, rankings),
        _choices_table(choices),
        _frontier_table(matrix, judged),
        _above_always(subject, choices),
        "PLOT reliability" if any(plot.name == "reliability" for plot in drawn) else "",
        _by_split(matrix, fitted, resampling, rng, fit_on),
        _cache(matrix, by_name[subject]),
        _safety(matrix, by_name[subject], threshold_rule, rng),
        _streams_said(runs[:n_streams], runs[n_streams:], rng) if runs else "",
        "PLOT regret" if runs else "",
        "PLOT gain",
    ]
    return Report("\n\n".join(part for part in parts if part) + "\n", drawn)


def _plots(matrix: OutcomeMatrix, judged: Sequence[Judged], subject: Judged, runs: Sequence[_Run]) -> tuple[Plot, ...]:
    found = [Plot("frontier", "Quality against cost", plots.frontier(matrix, judged, subject.name))]
    if subject.p_strong_only is not None:
        found.append(Plot("reliability", "Reliability diagram", plots.reliability(matrix, subject)))
    found += [Plot("regret", "Regret over the stream", plots.regret(*run)) for run in runs]
    found.append(Plot("gain", "Gain of training by kind of task", plots.gain_by_kind(gain_by_family(matrix))))
    return tuple(found)


def _made_from(matrix: OutcomeMatrix, fit_on: OutcomeMatrix | None, about: Sequence[str], n_draws: int) -> str:
    besides = "" if fit_on is None else f", and on other outcomes (digest `{fit_on.digest[:16]}`, {len(fit_on)} rows)"
    fitted = (
        f"Every policy that learns is fitted on the other families of the matrix, in {N_FOLDS} folds{besides}: it has "
        "seen no family that it is judged on. A shipped prior is judged as it is shipped."
    )
    n_tasks, n_groups = _n_tasks(matrix), len(set(task_groups(matrix)))
    grouped = (
        f" The tasks are {n_groups} groups: the queries of one file share their demonstrations and one adapter. Each "
        "is charged the whole training all the same, as if it came alone."
        if n_groups < n_tasks
        else ""
    )
    drawn = "groups, tasks and seeds" if n_groups < n_tasks else "tasks, seeds"
    lines = [
        f"Outcomes: digest `{matrix.digest[:16]}`, {n_tasks} tasks, {len(matrix)} rows of task and seed, arms "
        f"{', '.join(matrix.arms)}.{grouped}",
        fitted,
        f"Intervals are 95 %, by a bootstrap of {n_draws:,} draws over {drawn} with them; differences are paired. "
        "Cost is a part of that of always training, which pays for no features; every policy is charged what it looks "
        "at: nothing, the prompt, the votes, or all of the probe.",
        *about,
    ]
    return " ".join(lines)


def _what_there_is(matrix: OutcomeMatrix, n_draws: int) -> str:
    figures = set_figures(matrix, n_draws)
    rows = []
    for name, found in figures.items():
        of = [i for i, each in enumerate(matrix.sets) if name in ("all", each)]
        n_tasks = len({(matrix.sets[i], matrix.tasks[i]) for i in of})
        arms = [f"{found[f'quality {arm}'].value:.3f} ({found[f'cost {arm}'].value:.2f} s)" for arm in matrix.arms]
        rows.append([name or "(no set)", str(n_tasks), _shown(found["n01"]), _shown(found["n10"]), *arms,
                     f"{found['cost of features'].value:.2f} s"])  # fmt: skip
    n01, n10 = figures["all"]["n01"].value, figures["all"]["n10"].value
    said = (
        f"There is something to route: n01 - n10 is {n01 - n10:.3f}."
        if n01 - n10 >= WORTH_ROUTING
        else f"There is nothing to route: n01 - n10 is {n01 - n10:.3f}, below {WORTH_ROUTING}."
    )
    header = ["set", "tasks", "n01, only ttt", "n10, only icl", *matrix.arms, "features"]
    return f"## What there is to route\n\n{said}\n\n{_table(header, rows)}"


def _single_features(found: Mapping[str, Interval]) -> str:
    if not found:
        return ""
    rows = [[f"`{name}`", _shown(each)] for name, each in list(found.items())[:N_FEATURES_SHOWN]]
    name, best = next(iter(found.items()))
    strength = max(best.value, 1 - best.value)
    said = f"The best single feature is `{name}`: {strength:.3f}, found on these very rows."
    if strength >= BEATS_FEATURE:
        said += " A learned policy must justify itself by calibration, cost and drift, not by ranking."
    title = 'AUROC of "only ttt solves it", one feature at a time'
    return f"## {title}\n\n{said} Below 0.5, less of it speaks for training.\n\n{_table(['feature', 'AUROC'], rows)}"


def _verdict(subject: str, compared: Sequence[Compared], oracles: set[str], n_draws: int) -> str:
    rows = []
    for each in compared:
        beaten = "oracle" if each.other in oracles else "yes" if each.is_beaten else "**no**"
        apgr = "" if each.apgr is None else _signed(each.apgr)
        rows.append([each.other, apgr, _p(each.apgr_p), _signed(each.utility), _p(each.utility_p), beaten])
    left = [each for each in compared if each.other not in oracles and not each.is_beaten]
    header = ["other", "APGR, difference", "p", f"utility at λ = {PRICE:g}, difference", "p", "beaten"]
    words = (
        f"Beaten is what the subject is above in one of the two with p < {ALPHA:g}, and not below in the other; p is "
        "corrected for all these comparisons (Holm), the intervals are not."
    )
    n_tested = sum(p is not None for each in compared for p in (each.apgr_p, each.utility_p))
    needed = math.ceil(2 * n_tested / ALPHA)
    if n_draws < needed:
        words += (
            f" **{n_draws:,} draws are too few for that: no p can be so small. Take {needed:,} or more (`--draws`).**"
        )
    return f"## What {subject} beats\n\n{_not_beaten(subject, left)}\n\n{words}\n\n{_table(header, rows)}"


def _not_beaten(subject: str, left: Sequence[Compared]) -> str:
    """Name what is left, what of it is worth most, and what of it that looks at the task."""
    if not left:
        return f"`{subject}` is above every other, beyond chance."
    best, *rest = sorted(left, key=lambda each: each.utility.value)
    said = f"Not beaten: {', '.join(f'`{each.other}`' for each in left)}. "
    said += f"Worth most of them at λ = {PRICE:g}: `{best.other}`, {_signed(best.utility)} for `{subject}` beside it."
    looking = next((each for each in rest if each.apgr is not None), None)
    if best.apgr is None and looking is not None:
        said += f" Of those that look at the task: `{looking.other}`, {_signed(looking.utility)}."
    return said


def _ranking_table(matrix: OutcomeMatrix, rankings: Mapping[str, Draws]) -> str:
    known = {name: draws for name, draws in rankings.items() if draws}
    names = list(dict.fromkeys(figure for draws in known.values() for figure in draws))
    blocks = [names[i : i + 6] for i in range(0, len(names), 6)]
    tables = [
        _table(
            ["contender", *block],
            [[name, *(_shown(interval(d[f])) if f in d else "" for f in block)] for name, d in known.items()],
        )
        for block in blocks
    ]
    gain = matrix.quality[:, matrix.column(STRONG)] - matrix.quality[:, matrix.column(WEAK)]
    n01, n10 = float(np.maximum(gain, 0).mean()), float(np.maximum(-gain, 0).mean())
    expected = apgr_expected(WANTED_AUROC, n01, n10) if n01 > n10 else float("nan")
    words = (
        "APGR is the mean of the gap recovered over all shares of calls (0.5 at random); its ceiling is that of the "
        f"best order there is. It hangs on n01 and n10: here an AUROC of {WANTED_AUROC:g} would be an APGR of "
        f"{_number(expected)} (tasks that only icl solves ranked as others that training does not win). CPT(x) is the "
        "least share of calls that recovers x of the gap, A@x the quality at x of the cost and C@x the least cost for "
        "x of the quality of always training, OR(b) how far from random to the best order at a share b of calls. Brier "
        "and ECE are of P(only ttt is right)."
    )
    return "\n\n".join(["## How well they rank", words, *tables])


def _choices_table(choices: Mapping[str, Draws]) -> str:
    rows = []
    for name, found in choices.items():
        regrets = [_shown(interval(found[f"regret@{price:g}"])) for price in LAMBDAS]
        key = f"@{PRICE:g}"
        rows.append([
            name, _shown(interval(found[f"quality{key}"])), _shown(interval(found[f"cost{key}"])),
            _signed(interval(found[f"over shuffle{key}"])), *regrets,
        ])  # fmt: skip
    header = ["contender", f"quality at λ = {PRICE:g}", "cost", "quality over a shuffle of the same choices",
              *(f"regret, λ = {price:g}" for price in LAMBDAS)]  # fmt: skip
    words = (
        "Of all arms, at a price λ: what the mean cost of always training is worth in quality. Regret is of the best "
        "arm of each task; whoever knows that looks at no feature."
    )
    return f"## What their choices are worth\n\n{words}\n\n{_table(header, rows)}"


def _frontier_table(matrix: OutcomeMatrix, judged: Sequence[Judged]) -> str:
    unit = unit_of(matrix)
    points = {
        each.name: np.array(
            [(each.mean_cost_s(p).mean() / unit, each.mean_quality(matrix, p).mean()) for p in each.choices]
        )
        for each in judged
    }
    every = np.concatenate([points[each.name] for each in judged if not each.is_oracle])
    weak, strong = (
        (float(matrix.cost_s[:, matrix.column(arm)].mean() / unit), float(matrix.quality[:, matrix.column(arm)].mean()))
        for arm in (WEAK, STRONG)
    )
    low, high = min(weak[0], float(every[:, 0].min())), float(every[:, 0].max())
    rows = []
    for each in judged:
        own = points[each.name]
        mixed = np.vstack([own, weak])  # whatever a policy offers can be mixed with always icl
        at = own[list(each.choices).index(PRICE)].tolist()
        far = np.mean([pareto_distance((cost, quality), every[:, 0], every[:, 1]) for cost, quality in own.tolist()])
        score = aiq(mixed[:, 0], mixed[:, 1], low, high) if high > low else float("nan")
        rows.append([each.name, f"{score:.3f}", _number(ibc_lift((at[0], at[1]), weak, strong)), f"{far:.3f}"])
    words = (
        f"AIQ: mean quality of the hull over costs from {low:.2f} to {high:.2f}, the same for all; every policy may be "
        f"mixed with always icl. IBC lift: quality for cost over mixing icl and ttt at random, at λ = {PRICE:g}. "
        "ParetoDist: how far its points lie below the frontier of all."
    )
    return f"## The frontier\n\n{words}\n\n{_table(['contender', 'AIQ', 'IBC lift', 'ParetoDist'], rows)}"


def _above_always(subject: str, choices: Mapping[str, Draws]) -> str:
    always = choices.get(f"always {STRONG}")
    if always is None:
        return ""
    gained = interval(choices[subject]["quality@0"] - always["quality@0"])
    cost = interval(choices[subject]["cost@0"])
    return (
        f"Where time costs nothing, `{subject}` is {_signed(gained)} in quality beside always training, at "
        f"{cost.value:.2f} of its cost."
    )


def _by_split(
    matrix: OutcomeMatrix,
    subject: Contender,
    resampling: Resampling,
    rng: np.random.Generator,
    fit_on: OutcomeMatrix | None,
) -> str:
    ways: list[tuple[str, Sequence[Split], OutcomeMatrix | None]] = [
        ("other tasks of the same families (i.i.d.)", task_folds(matrix, N_FOLDS, rng), fit_on)
    ]
    if len(set(zip(matrix.sets, matrix.families, strict=True))) > 1:
        ways.append(("held-out families", family_folds(matrix, N_FOLDS, rng), fit_on))
    if len(set(matrix.sets)) > 1:
        ways.append(("a held-out set", set_folds(matrix), fit_on))
    if fit_on is not None:
        ways.append(("other outcomes alone", transfer(matrix), fit_on))
    rows = []
    for said, splits, other in ways:
        found = ranking_draws(replay(subject, matrix, splits, prices=(PRICE,), fit_on=other), matrix, resampling)
        rows.append([said, *(_shown(interval(found[name])) for name in ("AUROC", "APGR", "APGR / ceiling", "C@95%"))])
    header = ["judged on", "AUROC", "APGR", "APGR / ceiling", "C@95%"]
    words = f"The same for `{subject.name}`. Fits on tasks that are reported on are for comparison only."
    return f"## By what is held out\n\n{words}\n\n{_table(header, rows)}"


def _cache(matrix: OutcomeMatrix, subject: Judged) -> str:
    if matrix.train_s is None or np.isnan(matrix.train_s).all():
        return ""
    rows = []
    cached = {f"{rate:.0%} of the tasks come again": with_repeats(matrix, rate) for rate in REPEAT_RATES}
    for name, cheaper in cached.items():
        cost_s = subject.cost_s - (matrix.cost_s - cheaper.cost_s)
        curve = curve_of(Judged(subject.name, False, subject.choices, cost_s, subject.scores, None, None), matrix)
        reached = [_number(float(curve.cost_reaching(part)[0])) for part in (0.95, 0.98)]
        rows.append([name, *reached, *_cost_of_arms(cheaper, unit_of(matrix))])
    if len(set(task_groups(matrix))) < _n_tasks(matrix):  # whoever trains on some of a group pays for it whole: no C@
        shared = with_shared_training(matrix)
        rows.append(["the tasks of a group share one training", "", "", *_cost_of_arms(shared, unit_of(matrix))])
    words = (
        "As a part of always training without a cache: what finds its adapter is not trained on. C@ of "
        f"`{subject.name}`, and the cost of always one arm."
    )
    header = ["", "C@95%", "C@98%", *(f"always {arm}" for arm in matrix.arms)]
    return f"## With a cache of adapters\n\n{words}\n\n{_table(header, rows)}"


def _cost_of_arms(matrix: OutcomeMatrix, unit_s: float) -> list[str]:
    return [f"{seconds / unit_s:.3f}" for seconds in matrix.cost_s.mean(axis=0).tolist()]


def _n_tasks(matrix: OutcomeMatrix) -> int:
    return len(set(zip(matrix.sets, matrix.tasks, strict=True)))


def _safety(
    matrix: OutcomeMatrix, subject: Judged, rule: ThresholdRule | None, rng: np.random.Generator, n_splits: int = 1000
) -> str:
    if rule is None or subject.scores is None:
        return ""
    rows = []
    for rate in REGRET_RATES:
        found = regret_rates(subject.scores, matrix, partial(rule, rate), n_splits=n_splits, rng=rng)
        kept = float((found <= rate).mean())
        rows.append([f"{rate:.2f}", f"{kept:.1%}", f"{found.mean():.3f}", f"{np.quantile(found, 0.95):.3f}"])
    header = ["asked for", f"kept, of {n_splits} resplits", "mean rate", "95th percentile"]
    words = (
        "Share of the tasks answered in context that training would have answered better, where a bound on it was "
        "asked for."
    )
    return f"## The bound on regret\n\n{words}\n\n{_table(header, rows)}"


def _run(stream: Stream, contenders: tuple[Contender, Contender], rng: np.random.Generator) -> _Run:
    learns, stays = contenders
    return stream, (learning(learns, stream, rng=rng), frozen(stays, stream), best_fixed(stream))


def _streams_said(runs: Sequence[_Run], of_new_tasks: Sequence[_Run], rng: np.random.Generator) -> str:
    stream, brief = runs[0][0], of_new_tasks[0][0]
    ahead = [ahead_after_shift(courses[0], courses[1], each) for each, courses in runs]
    n_gained = sum(each[-len(each) // 3 :].mean() > 0 for each in ahead)
    recovered, between = tasks_to_recover(ahead), recovery_interval(ahead, rng)
    later = len(stream.rows) - stream.family_shift
    times = later / len(np.unique(stream.rows[stream.family_shift :]))
    words = (
        f"{len(runs)} streams of {len(stream.rows):,} tasks, drawn with repeats (after the shift a task comes "
        f"{times:.0f} times, and is charged its training each time); other families from task "
        f"{stream.family_shift:,} on, another price from {stream.price_shift:,} on. Outcomes of the arm taken, and of "
        f"icl, come back at once. The learner begins with {len(stream.warm_up)} tasks that every arm answered, is "
        f"fitted anew every {EVERY} tasks, on the newest {LearningSettings().window:,}, and explores one decision in "
        "twenty, which is part of its regret; there is no gate before it. Frozen, it explores nothing, and is told the "
        "price. A single arm pays for no features. The plot is of the first."
    )
    said = f"Before the price changes, learning gains on the frozen policy in {n_gained} of {len(runs)}"
    if recovered is not None:
        spread = "" if between is None else f"; 95 %: {between[0]:,} to {between[1]:,}"
        said += (
            f"; over all of them, 90 % of what it gains at last is there {recovered:,} tasks after the shift of "
            f"families (isotonic fit of the mean{spread})"
        )
    once = (
        f"{len(of_new_tasks)} streams in which no task comes twice: {len(brief.rows):,} tasks, the shifts at "
        f"{brief.family_shift:,} and {brief.price_shift:,}."
    )
    tables = _regrets_table(runs), _regrets_table(of_new_tasks)
    return f"## Streams that change\n\n{words} {said}.\n\n{tables[0]}\n\n{once}\n\n{tables[1]}"


def _regrets_table(runs: Sequence[_Run]) -> str:
    rows = []
    for place, name in enumerate(("the learner", "the same, frozen", "the best single arm, in hindsight")):
        regrets = [courses[place].cumulative_regret[-1] for _, courses in runs]
        utility = np.mean([courses[place].utility.mean() for _, courses in runs])
        spread = f"{min(regrets):.1f} to {max(regrets):.1f}"
        rows.append([name, f"{np.mean(regrets):.1f}", spread, f"{utility:.3f}"])
    return _table(["", "regret in all, mean", "of the streams", "mean utility"], rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(' '.join(cell.replace('|', '/').split()) for cell in line)} |" for line in lines)


def _shown(found: Interval) -> str:
    value, low, high = (round(each, 3) + 0.0 for each in (found.value, found.low, found.high))  # and no minus zero
    return "n/a" if np.isnan(value) else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _signed(found: Interval) -> str:
    value, low, high = (round(each, 3) + 0.0 for each in (found.value, found.low, found.high))
    return "n/a" if np.isnan(value) else f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"


def _p(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _number(value: float) -> str:
    return "n/a" if np.isnan(value) else f"{value:.3f}"


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Routing: what it is worth</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }}
body {{ color: #1a1a1a; background: #fff; }}
table {{ border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto; }}
th, td {{ padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: left; white-space: nowrap; }}
td {{ font-variant-numeric: tabular-nums; }}
th {{ border-bottom: 2px solid #888; }}
tbody tr:hover {{ background: #f4f6f8; }}
img {{ max-width: 100%; height: auto; }}
code {{ background: #f2f2f2; padding: 0 .2em; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""
