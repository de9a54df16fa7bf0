"""The command `ttt-router`: it reads the arguments, calls one function of the library, and prints what that gives.

Answers go to stdout, everything else to stderr. Torch and the router load inside the commands, so that help is quick.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.text import Text

from icl_engine.errors import FewShotError, TaskRefused
from icl_engine.task import LabelledTask
from router.bench_cli import bench_app
from router.cli_home import ledger_of
from router.config_cli import config_app
from router.ledger_cli import ledger_app
from router.model_cli import model_app
from router.policy_cli import policy_app
from router.quiet_libraries import quiet_libraries
from router.serve_cli import serve
from router.settings import Settings, told_of_unknown_variables
from router.traces_cli import traces_app
from router.ui_cli import ui
from router.values_shown import printable
from router.version import installed_version

if TYPE_CHECKING:
    from router.router import Router
    from router.solution import Solution

app = typer.Typer(
    name="ttt-router",
    help="Answer few-shot tasks with one language model: in context, or after training on the demonstrations.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(model_app, name="model")
app.add_typer(ledger_app, name="ledger")
app.add_typer(bench_app, name="bench")
app.add_typer(policy_app, name="policy")
app.add_typer(traces_app, name="traces")
app.add_typer(config_app, name="config")
app.command()(ui)
app.command()(serve)

File = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="ARC JSON, BBH JSON, JSON or JSONL of tasks, or a folder of these."),
]
Limit = Annotated[int | None, typer.Option(metavar="N", help="Take N tasks, spread over the kinds.")]
Shots = Annotated[int, typer.Option(metavar="K", help="Demonstrations per task of a BBH file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]
Model = Annotated[
    str | None, typer.Option(help="Folder or hub id of a causal language model; default: the embedded one.")
]
Seed = Annotated[int | None, typer.Option(help="Of all random draws.")]
Home = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the ledger, the adapters and the traces.")]
Instruction = Annotated[str | None, typer.Option(metavar="TEXT", help="Given to every task that has none of its own.")]
Verdict = Literal["right", "wrong"]
Query = Annotated[int | None, typer.Option(metavar="I", min=0, help="Only query I of each task, counted from 0.")]


def _print_version(asked: bool) -> None:
    if asked:
        print(f"ttt-router {installed_version()}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    pass


@app.command()
def solve(
    file: File,
    arm: Annotated[str | None, typer.Option(metavar="A", help="Force an arm, such as icl or ttt.")] = None,
    limit: Limit = None,
    shots: Shots = 10,
    as_json: AsJson = False,
    model: Model = None,
    seed: Seed = None,
    deadline: Annotated[float | None, typer.Option(metavar="S", help="Seconds after which training stops.")] = None,
    symbols: Annotated[bool, typer.Option("--symbols", help="Digits in the cells of grids.")] = False,
    home: Home = None,
    instruction: Instruction = None,
    query: Query = None,
) -> None:
    """Answer the tasks of a file; where it holds the solutions, say what was right."""
    settings = _settings(model=model, seed=seed, deadline_s=deadline, home=home)
    _tell_of_unknown_variables()
    tasks = _tasks(file, settings, limit=limit, shots=shots, instruction=instruction, query=query)
    router = make_router(settings)
    try:
        raise typer.Exit(_solve_all(router, settings, tasks, arm=arm, show=_Show(as_json, symbols, len(tasks))))
    finally:
        router.close()


@app.command()
def decide(
    file: File,
    limit: Limit = None,
    shots: Shots = 10,
    as_json: AsJson = False,
    model: Model = None,
    seed: Seed = None,
    home: Home = None,
    instruction: Instruction = None,
    query: Query = None,
) -> None:
    """Say which arm each task of a file would be answered with, and why; answer none of them."""
    settings = _settings(model=model, seed=seed, home=home)
    _tell_of_unknown_variables()
    tasks = _tasks(file, settings, limit=limit, shots=shots, instruction=instruction, query=query)
    router = make_router(settings)
    out = Console()
    try:
        for labelled in tasks:
            decision = router.decide(labelled.task)
            if as_json:
                _print_json(
                    {
                        "task_id": labelled.task.id,
                        "arm": decision.arm,
                        "propensity": decision.propensity,
                        "propensities": dict(decision.propensities),
                        "difficulty": decision.difficulty,
                        "reason": decision.reason,
                        "policy": decision.policy,
                    }
                )
            else:
                line = (
                    f"{printable(labelled.task.id):<24} {decision.arm:<9} {decision.propensity:.3f}  {decision.reason}"
                )
                _print_line(out, Text(line))
    finally:
        router.close()


@app.command()
def feedback(
    verdict: Annotated[Verdict, typer.Argument(help="Whether the answer was right.")],
    trace_id: Annotated[
        str, typer.Argument(metavar="[ID]", help="Id of the solve, its first characters, or `last`.")
    ] = "last",
    home: Home = None,
) -> None:
    """Say whether an answer was right, now or days later; what was said before is corrected."""
    from router.feedback import say_verdict
    from router.traces.stored import full_id

    with ledger_of(_settings(home=home), existing=True) as ledger:
        meant = full_id(ledger, trace_id)
        quality, reason = float(verdict == "right"), "said otherwise on the command line"
        corrected = say_verdict(ledger, meant, quality, source="user", reason=reason)
    print(f"{meant}: {verdict}, says user{' now' if corrected else ''}.")


@app.command()
def demo(seed: Seed = None) -> None:
    """Solve the bundled tasks in context, by training, and as the router decides; compare the three."""
    from router.demo import run_demo

    quiet_libraries()
    raise typer.Exit(run_demo(console=Console(), seed=_settings(seed=seed).seed))


@app.command()
def pretrain(
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Default: pretraining in the home folder.")] = None,
    steps: Annotated[int | None, typer.Option(min=1)] = None,
    extra_data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Gzipped JSONL of grid pairs to train on as well.")
    ] = None,
    large: Annotated[bool, typer.Option("--large", help="The larger model, for a GPU: 29 million weights.")] = False,
    start_from: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Weights to begin with, of the same shape, instead of fresh ones."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights and rows; the recipe's own by default.")] = None,
    hidden_size: Annotated[int | None, typer.Option(min=16)] = None,
    intermediate_size: Annotated[int | None, typer.Option(min=16)] = None,
    layers: Annotated[int | None, typer.Option(min=1)] = None,
    heads: Annotated[int | None, typer.Option(min=1)] = None,
    context_tokens: Annotated[int | None, typer.Option(min=64)] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Rows in one step.")] = None,
    row_tokens: Annotated[int | None, typer.Option(min=64, help="Tokens in one row.")] = None,
    learning_rate: Annotated[float | None, typer.Option()] = None,
    checkpoint_every: Annotated[int | None, typer.Option(min=1, help="Steps between checkpoints.")] = None,
    validate_every: Annotated[int | None, typer.Option(min=1, help="Steps between validations.")] = None,
    compiled: Annotated[bool, typer.Option(help="Use torch.compile.")] = True,
) -> None:
    """Train the embedded model anew, or go on from the checkpoint in the folder. Unset options are the recipe's."""
    from icl_engine.embedded.pretraining import LARGE, PretrainingConfig
    from icl_engine.embedded.pretraining import pretrain as run
    from router.progress import PretrainingProgress

    quiet_libraries()
    given = {
        "steps": steps, "seed": seed, "hidden_size": hidden_size, "intermediate_size": intermediate_size,
        "layers": layers, "heads": heads, "context_tokens": context_tokens, "rows": rows, "row_tokens": row_tokens,
        "learning_rate": learning_rate, "checkpoint_every": checkpoint_every, "validate_every": validate_every,
    }  # fmt: skip
    config = replace(LARGE if large else PretrainingConfig(), **_only_given(given))
    config = replace(config, axis_pairs=_axis_pairs(config.hidden_size, config.heads, config.axis_pairs))
    folder = out or _settings().home / "pretraining"
    with PretrainingProgress(Console(stderr=True)) as report:
        weights = run(config, folder, extra_data=extra_data, start_from=start_from, report=report, compiled=compiled)
    print(weights)
    print(f"Use it with: ttt-router solve FILE --model {weights}", file=sys.stderr)


@app.command()
def doctor(as_json: AsJson = False, model: Model = None, home: Home = None) -> None:
    """Check that everything needed is here, and say what to do where it is not."""
    from router.doctor import run_doctor

    quiet_libraries()
    raise typer.Exit(run_doctor(_settings(model=model, home=home), Console(), as_json=as_json))


def make_router(settings: Settings) -> Router:
    """Make the router that the commands use."""
    from router.router import Router

    quiet_libraries()
    return Router(settings)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; what can go wrong with the input is one line on stderr."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that cannot show a character is no reason to stop
            stream.reconfigure(errors="backslashreplace")
    try:
        app(args=arguments, prog_name="ttt-router")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except FewShotError as error:
        from router.errors import exit_code

        _complain(error)
        return exit_code(error)
    except OSError as error:
        _complain(error)
        return 1
    return 0


@dataclass(frozen=True, slots=True)
class _Show:
    """How solutions are printed."""

    as_json: bool
    symbols: bool
    n_tasks: int

    def __call__(self, out: Console, solution: Solution, labelled: LabelledTask) -> None:
        from router.json_output import json_lines
        from router.render import SolutionView, summary

        if self.as_json:
            for line in json_lines(solution, labelled.solutions):
                _print_json(line)
        elif self.n_tasks == 1:
            out.print(SolutionView(solution, labelled.solutions, self.symbols), highlight=False)
        else:
            _print_line(out, summary(solution, labelled.solutions))


def _solve_all(
    router: Router, settings: Settings, tasks: Sequence[LabelledTask], *, arm: str | None, show: _Show
) -> int:
    """Solve one task after the other, each printed as it comes; a task that is refused does not stop the rest."""
    from policies.errors import ArmUnavailable
    from router.errors import exit_code
    from router.progress import SolvingProgress
    from router.tally import Tally

    out, err, tally, code = Console(), Console(stderr=True), Tally(), 0
    try:
        with SolvingProgress(err, len(tasks)) as progress:
            for labelled in tasks:
                try:
                    solution = router.solve(
                        labelled.task,
                        arm=arm,
                        seed=settings.seed,
                        deadline_s=settings.deadline_s,
                        progress=progress.stage,
                    )
                except (TaskRefused, ArmUnavailable) as error:
                    if len(tasks) == 1:
                        raise
                    code = exit_code(error)
                    with progress.task_done():
                        _complain(error, labelled.task.id)
                else:
                    tally.add(solution, labelled.solutions)
                    with progress.task_done():
                        show(out, solution, labelled)
                        _record_outcome(router, solution, labelled)
    finally:
        if tally.all.n > 1:
            err.print(tally.table())
    return code


def _record_outcome(router: Router, solution: Solution, labelled: LabelledTask) -> None:
    """Tell the ledger what came of a decision; an answer that is printed already must not be lost to that."""
    from policies.errors import LedgerUnavailable, OutcomeConflict, UnknownTrace
    from router.trace_errors import TraceNotKept

    if any(known is not None for known in labelled.solutions):
        try:
            router.feedback(solution.trace_id, answer=labelled.solutions, source="solution")
        except (LedgerUnavailable, OutcomeConflict, TraceNotKept, UnknownTrace) as error:
            if not any(said.startswith("not recorded") for said in solution.degraded):  # it has been said then
                _complain(error, labelled.task.id)


def _tasks(
    file: Path, settings: Settings, *, limit: int | None, shots: int, instruction: str | None, query: int | None
) -> list[LabelledTask]:
    from icl_engine.loaders import load_tasks, take

    tasks = load_tasks(file, shots=shots, limits=settings.limits, instruction=instruction)
    tasks = tasks if limit is None else take(tasks, limit)
    return tasks if query is None else [_only_query(labelled, query) for labelled in tasks]


def _only_query(labelled: LabelledTask, i: int) -> LabelledTask:
    n = len(labelled.task.queries)
    if i >= n:
        remedy = f"The task has {n} quer{'y' if n == 1 else 'ies'}, counted from 0."
        raise TaskRefused(f"got {i}", field="query", remedy=remedy, task_id=labelled.task.id)
    return LabelledTask(labelled.task.for_query(i), (labelled.solutions[i],))


def _settings(**given: object) -> Settings:
    return Settings(**_only_given(given))


def _tell_of_unknown_variables() -> None:
    for told in told_of_unknown_variables():
        print(printable(f"ttt-router: {told}"), file=sys.stderr)


def _only_given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _axis_pairs(hidden_size: int, heads: int, recipe: tuple[int, int, int]) -> tuple[int, int, int]:
    """Share the rotary pairs of a head between value, column and row: as the recipe does, or in its proportions."""
    if hidden_size % (2 * heads):
        raise typer.BadParameter(
            f"{hidden_size} must be a multiple of twice the heads ({heads})", param_hint="hidden-size"
        )
    pairs = hidden_size // (2 * heads)
    if pairs == sum(recipe):
        return recipe
    value = pairs * recipe[0] // sum(recipe)
    column = (pairs - value + 1) // 2
    return value, column, pairs - value - column


def _print_json(line: dict[str, object]) -> None:
    print(json.dumps(line), flush=True)


def _print_line(out: Console, line: Text) -> None:
    """One line on a terminal however narrow; all of it into a pipe."""
    if out.is_terminal:
        out.print(line, no_wrap=True, overflow="ellipsis", highlight=False)
    else:
        print(line.plain, flush=True)


def _complain(error: Exception, task_id: str | None = None) -> None:
    task_id = task_id or getattr(error, "task_id", None)
    where = f"task {task_id}: " if task_id else ""
    parts: Iterable[str] = f"ttt-router: {where}{error}".splitlines() or [""]
    print(printable(" ".join(part.strip() for part in parts)), file=sys.stderr)
