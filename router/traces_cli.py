"""`ttt-router traces`: look at what was decided and why, compare, decide once more, hand on.

Like the other commands it reads the arguments, calls one function and prints what that gives. Only `fork --arm` loads
a model.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer
from rich.console import Console, Group
from rich.panel import Panel
from rich.text import Text

from router.cli_home import Home, ledger_of, settings_at
from router.settings import Settings, SettingsError
from router.values_shown import printable
from router.version import installed_version

if TYPE_CHECKING:
    from policies.ledger import Ledger
    from policies.trace_log import TraceFilter
    from router.traces import PolicyLoader, StoredTrace

traces_app = typer.Typer(help="See why each task was answered as it was, and what else it might have been.")

TraceId = Annotated[str, typer.Argument(metavar="ID", help="Id of a trace, its first characters, or `last`.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, an object a line.")]
Number = Annotated[int, typer.Option("-n", "--number", metavar="N", min=1, help="At most so many.")]
Arm = Annotated[str | None, typer.Option(metavar="A", help="Only what was decided to be answered by this arm.")]
Outcome = Annotated[
    Literal["right", "wrong", "partly", "unknown"] | None, typer.Option(help="Only what turned out so.")
]
PolicyName = Annotated[
    str | None, typer.Option("--policy", metavar="P", help="Only of this policy, NAME or NAME@VERSION.")
]
WithErrors = Annotated[
    bool | None, typer.Option("--errors/--no-errors", help="Only where something went wrong on the way; or nothing.")
]
Since = Annotated[str | None, typer.Option(metavar="T", help="A date, a time, or how long ago: 90m, 36h, 7d.")]
Until = Annotated[str | None, typer.Option(metavar="T", help="As --since; before that.")]
TaskId = Annotated[str | None, typer.Option("--task", metavar="T", help="Only of this task.")]

UNEQUAL = 1  # the exit code where a decision made once more is another


@traces_app.command("list")
def list_(
    n: Number = 20,
    as_json: AsJson = False,
    arm: Arm = None,
    outcome: Outcome = None,
    policy: PolicyName = None,
    errors: WithErrors = None,
    since: Since = None,
    until: Until = None,
    task: TaskId = None,
    regret: Annotated[
        bool, typer.Option("--regret", help="The largest regret first, by the policy's estimates.")
    ] = False,
    skip: Annotated[int, typer.Option(metavar="N", min=0, help="Leave out the first N.")] = 0,
    home: Home = None,
) -> None:
    """List traces, the newest first."""
    wanted = _filter(arm, outcome, policy, errors, since, until, task)
    with _ledger(home) as ledger:
        found = ledger.traces.summaries(wanted, n=n, order="regret" if regret else "newest", skip=skip)
        total = ledger.traces.count(wanted)
    if as_json:
        from policies.trace_log import verdict_of

        for line in found:
            _print_json({**asdict(line), "verdict": verdict_of(line.outcome)})
        return
    from router.traces_render import list_table

    out = Console()
    out.print(list_table(found, wide=out.width >= 100))
    if total > skip + len(found):
        Console(stderr=True).print(f"{len(found)} of {total}; more with -n", style="dim", highlight=False)


@traces_app.command()
def show(
    trace_id: TraceId = "last",
    as_json: AsJson = False,
    symbols: Annotated[bool, typer.Option("--symbols", help="Digits in the cells of grids.")] = False,
    home: Home = None,
) -> None:
    """Show one trace: the task, the answers, why, and the way through the graph."""
    from router.traces import why
    from router.traces_render import path_table, task_view, votes_table, why_table

    with _stored(home, trace_id) as stored:
        if as_json:
            print(stored.trace.model_dump_json())
            return
        title = Text(f"trace {printable(stored.trace.trace_id)}, task {printable(stored.trace.task.id)}", style="bold")
        said = why_table(why(stored))
        parts = Group(task_view(stored, symbols), "", votes_table(stored), "", said, "", path_table(stored))
        Console().print(Panel(parts, title=title, title_align="left"), highlight=False)


@traces_app.command("why")
def why_(trace_id: TraceId = "last", as_json: AsJson = False, home: Home = None) -> None:
    """Say in words what decided it, how near it was, and at which price it would have been another arm."""
    from router.traces import why
    from router.traces_render import why_table

    with _stored(home, trace_id) as stored:
        said = why(stored)
    if as_json:
        _print_json({"trace_id": stored.trace.trace_id, **{sentence.topic: sentence.text for sentence in said}})
    else:
        Console().print(why_table(said), highlight=False)


@traces_app.command("diff")
def diff_(one: TraceId, other: TraceId, as_json: AsJson = False, home: Home = None) -> None:
    """Show where two traces differ."""
    from router.traces import diff, read_trace
    from router.traces_render import short_line, table_of

    with _ledger(home) as ledger:
        first, second = read_trace(ledger, one).trace, read_trace(ledger, other).trace
    found = diff(first, second)
    if as_json:
        for each in found:
            _print_json({"field": each.field, "one": each.recorded, "other": each.now})
        return
    table = table_of("field", f"one ({first.trace_id[:8]})", f"other ({second.trace_id[:8]})")
    for each in found:
        table.add_row(*(Text(short_line(text)) for text in (each.field, each.recorded, each.now)))
    Console().print(table if found else Text("They differ in nothing but their ids and times."), highlight=False)


@traces_app.command("replay")
def replay_(
    trace_ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Default: the newest.")] = None,
    n: Number = 1000,
    as_json: AsJson = False,
    arm: Arm = None,
    outcome: Outcome = None,
    policy: PolicyName = None,
    errors: WithErrors = None,
    since: Since = None,
    until: Until = None,
    task: TaskId = None,
    home: Home = None,
) -> None:
    """Decide once more from what is stored, and compare bit for bit; exit code 1 where any is not the same."""
    from router.traces import full_id, replay
    from router.traces_render import replay_json, replay_table

    with _ledger(home) as ledger:
        given = (settings_at(home).first_policy,)
        if trace_ids:
            ids = [full_id(ledger, trace_id) for trace_id in trace_ids]
        else:
            wanted = _filter(arm, outcome, policy, errors, since, until, task)
            ids = [line.trace_id for line in ledger.traces.summaries(wanted, n=n)]
        loaders = (_learned_in(ledger),)
        replays = [replay(ledger.decision(trace_id), given=given, loaders=loaders) for trace_id in ids]
    if as_json:
        for each in replays:
            _print_json(replay_json(each))
    else:
        unequal = [each for each in replays if not each.equal]
        if unequal:
            Console().print(replay_table(unequal), highlight=False)
        print(f"{len(replays) - len(unequal)} of {len(replays)} decisions are the same, bit for bit.")
    raise typer.Exit(0 if all(each.equal for each in replays) else UNEQUAL)


@traces_app.command()
def fork(
    trace_id: TraceId = "last",
    arm: Annotated[str | None, typer.Option(metavar="A", help="Answer the task with this arm, and record it.")] = None,
    policy: Annotated[
        str | None, typer.Option(metavar="P", help="Let this policy, NAME@VERSION, decide; records nothing.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before running an arm.")] = False,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Go another way from a stored trace: with another arm, or with another policy's decision."""
    if (arm is None) == (policy is None):
        raise SettingsError("got both or neither", variable="--arm, --policy", remedy="Give one of them.")
    from router.traces import read_trace

    with _ledger(home) as ledger:
        stored = read_trace(ledger, trace_id)
        if policy is not None:
            _fork_policy(stored, policy, settings_at(home), ledger, as_json)
    if arm is not None:
        _fork_arm(stored, arm, settings_at(home), as_json=as_json, yes=yes)


@traces_app.command()
def export(
    trace_ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Default: the newest.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Default: standard output.")] = None,
    n: Number = 1000,
    content: Annotated[bool, typer.Option(help="With the tasks and their answers.")] = True,
    arm: Arm = None,
    outcome: Outcome = None,
    policy: PolicyName = None,
    errors: WithErrors = None,
    since: Since = None,
    until: Until = None,
    task: TaskId = None,
    home: Home = None,
) -> None:
    """Write OpenTelemetry spans as OTLP/JSON, a trace a line, oldest first."""
    from router.traces import as_json, spans_of

    wanted = _filter(arm, outcome, policy, errors, since, until, task)
    with _ledger(home) as ledger:
        lines = (
            as_json(spans_of(stored, content=content), version=installed_version())
            for stored in _chosen(ledger, trace_ids, wanted, n)
        )
        if out is None:
            for line in lines:
                print(line)
        else:
            with out.open("w", encoding="utf-8") as file:
                for line in lines:
                    print(line, file=file)


@traces_app.command("push")
def push_(
    endpoint: Annotated[str, typer.Argument(metavar="URL", help="OTLP/HTTP collector, such as http://localhost:4318.")],
    trace_ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Default: the newest.")] = None,
    n: Number = 100,
    header: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Sent with each request.")] = None,
    encoding: Annotated[Literal["protobuf", "json"], typer.Option(help="How it is written.")] = "protobuf",
    content: Annotated[bool, typer.Option(help="With the tasks and their answers.")] = True,
    arm: Arm = None,
    outcome: Outcome = None,
    policy: PolicyName = None,
    errors: WithErrors = None,
    since: Since = None,
    until: Until = None,
    task: TaskId = None,
    home: Home = None,
) -> None:
    """Send traces to an OpenTelemetry collector or viewer: MLflow, Phoenix, Langfuse, Jaeger."""
    from router.traces import push, spans_of

    headers = dict(map(_header, header or ()))
    wanted = _filter(arm, outcome, policy, errors, since, until, task)
    with _ledger(home) as ledger:
        solves = (spans_of(stored, content=content) for stored in _chosen(ledger, trace_ids, wanted, n))
        n_pushed = push(solves, endpoint, version=installed_version(), headers=headers, encoding=encoding)
    print(f"{n_pushed} trace{'' if n_pushed == 1 else 's'} pushed.")


@traces_app.command()
def path(
    trace_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Whose way through the graph to show.")] = None,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Print where the traces are; or, of one trace, the way it took through the graph."""
    if trace_id is None:
        from policies.database import Place

        place = Place.of(settings_at(home).ledger_location)
        where = place.shown if place.file is None else str(place.file)
        print(json.dumps({"path": where}) if as_json else where)
        return
    from router.traces_render import path_table

    with _stored(home, trace_id) as stored:
        if as_json:
            for step in stored.trace.path:
                _print_json(step.model_dump())
        else:
            Console().print(path_table(stored), highlight=False)


# What the commands share


def _ledger(home: Path | None) -> Ledger:
    return ledger_of(settings_at(home), existing=True)


@contextmanager
def _stored(home: Path | None, trace_id: str) -> Iterator[StoredTrace]:
    from router.traces import read_trace

    with _ledger(home) as ledger:
        yield read_trace(ledger, trace_id)


def _filter(
    arm: str | None,
    outcome: str | None,
    policy: str | None,
    errors: bool | None,
    since: str | None,
    until: str | None,
    task: str | None,
) -> TraceFilter:
    from policies.trace_log import TraceFilter, Verdict
    from router.traces.moments import moment

    now = datetime.now(UTC)
    return TraceFilter(
        arm=arm,
        policy=policy,
        outcome=cast("Verdict | None", outcome),
        degraded=errors,
        since=None if since is None else moment(since, now, option="--since"),
        until=None if until is None else moment(until, now, option="--until"),
        task_id=task,
    )


def _chosen(ledger: Ledger, trace_ids: list[str] | None, wanted: TraceFilter, n: int) -> Iterator[StoredTrace]:
    """Yield the traces that are named, or the newest, the oldest of them first."""
    from router.traces import read_trace

    ids = trace_ids or [line.trace_id for line in reversed(ledger.traces.summaries(wanted, n=n))]
    for trace_id in ids:
        yield read_trace(ledger, trace_id)


def _header(given: str) -> tuple[str, str]:
    name, there, value = given.partition("=")
    if not there or not name.strip():
        raise SettingsError("a header without a name or a value", variable="--header", remedy="Give NAME=VALUE.")
    return name.strip(), value


def _learned_in(ledger: Ledger) -> PolicyLoader:
    """Return what finds a learned policy in the ledger; each is read once."""
    from router.learned_policies import version_named

    return functools.cache(lambda named: version_named(named, ledger))


def _fork_policy(stored: StoredTrace, policy: str, settings: Settings, ledger: Ledger, as_json: bool) -> None:
    from router.traces import fork_policy, told
    from router.traces_render import replay_json

    found = fork_policy(stored, policy, given=(settings.first_policy,), loaders=(_learned_in(ledger),))
    if as_json:
        _print_json(replay_json(found))
    else:
        print(printable(told(found, stored)))
    raise typer.Exit(0 if found.decision is not None else UNEQUAL)


def _fork_arm(stored: StoredTrace, arm: str, settings: Settings, *, as_json: bool, yes: bool) -> None:
    from router.cli import make_router
    from router.traces import expected_seconds, fork_arm

    expected = expected_seconds(stored, arm)
    price = "an unknown time" if expected is None else f"about {expected:.1f} s"
    if not yes and not typer.confirm(
        f"Answer task {printable(stored.trace.task.id)} with {printable(arm)}: {price}?", err=True
    ):
        raise typer.Exit(UNEQUAL)
    with make_router(settings) as router:
        made = fork_arm(router, stored, arm)
    if as_json:
        from router.json_output import json_lines

        for line in json_lines(made.solution, (None,) * len(made.solution.answers)):
            _print_json({**line, "forked_from": made.trace_id, "same_answers": made.same_answers})
        return
    from router.render import SolutionView

    Console().print(SolutionView(made.solution), highlight=False)
    print(f"The answer is {'the same as' if made.same_answers else 'another than'} that of trace {made.trace_id[:8]}.")


def _print_json(line: dict[str, object]) -> None:
    print(json.dumps(line), flush=True)
