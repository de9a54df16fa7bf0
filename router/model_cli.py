"""`ttt-router model`: the model's card, and its evaluation on public task sets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown

from icl_engine.errors import UnreadableTaskFile
from router.settings import Settings

model_app = typer.Typer(help="The model's card, and its evaluation.", no_args_is_help=True)

Model = Annotated[str | None, typer.Option(help="Folder of a model; default: the embedded one.")]


@model_app.command("card")
def show_card(model: Model = None) -> None:
    """Print what the model is, what it has seen, and where it ends."""
    from icl_engine.transformers_model import EMBEDDED_WEIGHTS
    from router.model_report import card

    folder = Path(model) if model else EMBEDDED_WEIGHTS
    try:
        text = card(folder)
    except FileNotFoundError as error:
        raise UnreadableTaskFile(
            f"no {Path(error.filename).name} in {folder}", field="model", remedy="Name a folder with card and weights."
        ) from error
    out = Console()
    if out.is_terminal:
        out.print(Markdown(text))
    else:
        print(text)


@model_app.command("eval")
def run_eval(
    data: Annotated[Path, typer.Option(metavar="DIR", help="Holds 1d-arc, concept-arc, arc-agi-1 and bbh.")],
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="SET", help="1d-arc, concept-arc, evaluation_80 or bbh; all.")
    ] = None,
    arms: Annotated[list[str] | None, typer.Option("--arm", metavar="A", help="Default: icl and ttt.")] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", help="Take N tasks of each set.")] = None,
    queries: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Take the first N queries of each text file; default: all.")
    ] = None,
    max_tokens: Annotated[
        int, typer.Option(metavar="N", help="Leave out tasks longer than this, the answer included.")
    ] = 2048,
    processes: Annotated[int, typer.Option(min=1, help="Work on so many tasks at once. Seconds need 1.")] = 1,
    results: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Default: model_eval.jsonl in the home folder.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A document whose tables are brought up to date.")
    ] = None,
    model: Model = None,
    home: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the results.")] = None,
) -> None:
    """Answer public task sets in context and trained; go on where an earlier run stopped; print the tables."""
    from icl_engine.language_model import load_model
    from router.model_eval import ARMS, SETS, describe, evaluate, load_set, within
    from router.model_report import report, write_between_marks
    from router.progress import EvaluationProgress

    given = {name: value for name, value in {"model": model, "home": home}.items() if value is not None}
    settings = Settings(**given)  # type: ignore[arg-type]  # pydantic checks them
    unknown = set(sets or ()) - set(SETS)
    if unknown:
        raise typer.BadParameter(f"{sorted(unknown)[0]!r} is none of {', '.join(SETS)}", param_hint="--set")
    encoding = load_model(
        settings.model, device=settings.device, dtype=settings.dtype, grid_form=settings.grid_form
    ).encoding

    wanted = [
        load_set(name, data, fits=within(encoding, max_tokens), limit=limit, n_queries=queries) for name in sets or SETS
    ]
    file = results or settings.home / "model_eval.jsonl"
    with EvaluationProgress(Console(stderr=True)) as progress:
        found = evaluate(wanted, settings, file, arms=arms or ARMS, processes=processes, progress=progress)
    about = describe(settings)
    text = report([result for result in found if (result.model, result.settings) == about], wanted)
    print(text)
    if out is not None:
        write_between_marks(out, text)
        print(f"Written into {out}.", file=sys.stderr)
