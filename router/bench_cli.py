"""`ttt-router bench`: outcomes of every arm on every task, and the report on what routing is worth."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from router.settings import Settings

if TYPE_CHECKING:
    import torch

bench_app = typer.Typer(help="The benchmark of routing.", no_args_is_help=True)


@bench_app.command("matrix")
def run_matrix(
    out: Annotated[Path, typer.Option(metavar="FILE", help="The frozen matrix: .csv.gz, .csv or .parquet.")],
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Holds 1d-arc, concept-arc, arc-agi-1 and bbh.")
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="SET", help="generated, arc-training, 1d-arc, concept-arc, evaluation_80 or bbh."
        ),
    ] = None,
    arms: Annotated[
        list[str] | None, typer.Option("--arm", metavar="A", help="Default: icl, icl_vote, ttt_short, ttt.")
    ] = None,
    seeds: Annotated[int, typer.Option(metavar="N", min=1, help="Run seeds 0 to N-1.")] = 2,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="Take N tasks of each set.")] = None,
    queries: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Take the first N queries of each text file.")
    ] = None,
    per_family: Annotated[int, typer.Option(metavar="N", min=1, help="Draw N tasks of each generated family.")] = 20,
    max_tokens: Annotated[
        int, typer.Option(metavar="N", help="Leave out tasks longer than this, the answer included.")
    ] = 2048,
    processes: Annotated[int, typer.Option(min=1, help="Work on so many tasks at once. Seconds need 1.")] = 1,
    deadline: Annotated[
        float | None, typer.Option(metavar="S", help="Seconds an answer may take, as in solve.")
    ] = None,
    stop_after: Annotated[
        float | None, typer.Option(metavar="S", help="Begin nothing new after S seconds; the next call goes on.")
    ] = None,
    rows: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What is finished; default: FILE.jsonl beside it.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Folder or hub id of a model; default: the embedded one.")] = None,
) -> None:
    """Run every arm on every task over seeds; go on where an earlier run stopped; freeze what there is."""
    from icl_engine.language_model import load_model
    from router.bench.matrix import ARMS, fill, freeze
    from router.bench.task_sets import GENERATED, load_bench_set
    from router.model_eval import within
    from router.progress import EvaluationProgress

    settings = Settings(**({} if model is None else {"model": model}))  # type: ignore[arg-type]  # pydantic checks it
    wanted = sets or [GENERATED]
    _check_sets(wanted, data)
    loaded = load_model(settings.model, device=settings.device, dtype=settings.dtype, grid_form=settings.grid_form)
    tasks = [
        each
        for name in wanted
        for each in load_bench_set(
            name,
            data or Path(),
            fits=within(loaded.encoding, max_tokens),
            limit=limit,
            per_family=per_family,
            n_queries=queries,
        )
    ]
    with EvaluationProgress(Console(stderr=True)) as progress:
        outcomes = fill(
            tasks, settings, rows or Path(f"{out}.jsonl"), arms=arms or ARMS, seeds=range(seeds), processes=processes,
            deadline_s=deadline, stop_after_s=stop_after, progress=progress,
        )  # fmt: skip
    if not outcomes:
        print("Nothing is finished yet.", file=sys.stderr)
        raise typer.Exit(1)
    about: dict[str, str | int | float] = {
        "model": outcomes[0].model,
        "settings": outcomes[0].settings,
        "device": _name_of(loaded.device),
    }
    matrix = freeze(outcomes, out, about=about)
    missing = len(tasks) * seeds * len(arms or ARMS) - len(outcomes)
    print(f"{out}: {len(matrix)} rows of {', '.join(matrix.arms)}, digest {matrix.digest}")
    if missing > 0:
        said = (
            "outcomes are missing: those of an arm that a task cannot be answered with, and what the same command adds"
        )
        print(f"{missing} {said}.", file=sys.stderr)


def _check_sets(wanted: Sequence[str], data: Path | None) -> None:
    from icl_engine.errors import UnreadableTaskFile
    from router.bench.task_sets import GENERATED, TO_FIT, TO_REPORT

    known = (*TO_FIT, *TO_REPORT)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(known)}", param_hint="--set")
    if data is None and any(name != GENERATED for name in wanted):
        raise UnreadableTaskFile("no folder given", field="data", remedy="Name the folder of the sets with --data.")


@bench_app.command("report")
def run_report(
    matrices: Annotated[
        list[Path], typer.Argument(metavar="MATRIX...", help="CSV, gzipped CSV or parquet; judged on.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page.")] = Path("routing.md"),
    plots: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Plots and report.html; default: beside the page.")
    ] = None,
    fit: Annotated[
        list[Path] | None,
        typer.Option("--fit", metavar="MATRIX", help="Fit on these, too, besides other families."),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option("--ignore", metavar="COLUMN", help="A column that is no feature, such as a text."),
    ] = None,
    subject: Annotated[str | None, typer.Option(metavar="NAME", help="The contender compared with all others.")] = None,
    streams: Annotated[
        int, typer.Option(metavar="N", min=0, help="Streams that change, of each kind; a minute or two each.")
    ] = 5,
    draws: Annotated[int, typer.Option(metavar="N", min=100, help="Bootstrap draws.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Of folds, draws and stream.")] = 0,
) -> None:
    """Replay every policy on frozen outcomes, anybody's, and write the page and its plots. Needs the extra `report`."""
    from policies.errors import OutcomesRefused
    from policies.outcome_matrix import joined
    from router.bench.contenders import standard_contenders
    from router.bench.matrix import read_frozen
    from router.bench.plots import require_plots
    from router.bench.report import make_report
    from router.bench.shipped_contenders import shipped_contenders, threshold_of_bound
    from router.progress import EvaluationProgress

    require_plots()
    judged_on = [read_frozen(path, ignore=ignore or ()) for path in matrices]
    fitted_on = [read_frozen(path, ignore=ignore or ()) for path in fit or ()]
    matrix = joined([each for each, _ in judged_on])
    fit_on = joined([each for each, _ in fitted_on]) if fitted_on else None
    if not matrix.feature_names:
        raise OutcomesRefused("features", "none that a policy could rank tasks by", remedy="Give feature columns.")
    contenders = (*shipped_contenders(matrix), *standard_contenders(matrix))
    ranking = [each.name for each in contenders if not each.is_oracle and not each.name.startswith("always")]
    chosen = subject or ranking[0]
    if chosen not in ranking:
        raise typer.BadParameter(f"{chosen!r} is none of {', '.join(ranking)}", param_hint="--subject")
    command = _command(
        matrices, fit=fit, out=out, plots=plots, ignore=ignore, subject=subject, streams=streams, draws=draws, seed=seed
    )
    with EvaluationProgress(Console(stderr=True)) as progress:
        report = make_report(
            matrix,
            contenders,
            subject=chosen,
            fit_on=fit_on,
            n_draws=draws,
            n_streams=streams,
            seed=seed,
            progress=progress,
            threshold_rule=threshold_of_bound,
            about=[
                *(said for _, said in (*judged_on, *fitted_on)),
                f"Made by `{command}`.",
            ],
        )
    for file in report.write(out, plots or out.parent / out.stem):
        print(file)


@bench_app.command("prior")
def run_prior(
    matrices: Annotated[list[Path], typer.Argument(metavar="MATRIX...", help="Frozen outcomes; not to be judged on.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The prior, as JSON.")] = Path("prior.json"),
) -> None:
    """Make the prior that the package ships from outcomes: what is believed before an installation has seen any."""
    from policies.gain_models.fitting import make_prior
    from policies.gain_models.prior import PRIOR_FEATURES
    from policies.outcome_matrix import joined
    from router.bench.matrix import read_frozen

    matrix = joined([read_frozen(path)[0] for path in matrices])
    sets = ", ".join(sorted(set(matrix.sets)))
    source = f"{len(matrix)} outcomes of {sets}; digest {matrix.digest[:16]}"
    prior = make_prior(matrix, PRIOR_FEATURES, source=source)
    out.write_text(prior.as_json(), encoding="utf-8")
    print(f"{out}: {len(prior.feature_names)} features, {source}")


def _command(matrices: Sequence[Path], **options: object) -> str:
    """Write out the command with every option that is not empty; one that is given several times is a sequence."""
    words = ["ttt-router bench report", *(path.as_posix() for path in matrices)]
    for name, value in options.items():
        for each in value if isinstance(value, list | tuple) else () if value is None else (value,):
            words.append(f"--{name} {shlex.quote(each.as_posix() if isinstance(each, Path) else str(each))}")
    return " ".join(words)


def _name_of(device: torch.device) -> str:
    """Name what the seconds were measured on."""
    import os
    import platform

    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {os.cpu_count()} cores of {platform.processor() or platform.machine()}"
