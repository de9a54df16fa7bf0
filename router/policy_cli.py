"""`ttt-router policy`: train, judge, promote and roll back what decides, and say where learning stands."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from router.cli_home import Home, ledger_of, settings_at
from router.values_shown import printable

if TYPE_CHECKING:
    from policies.ledger import Ledger
    from policies.records import PolicyVersion

policy_app = typer.Typer(help="Train, judge, promote and roll back the policy that decides.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Version = Annotated[
    str,
    typer.Argument(
        metavar="[VERSION]", help="Id of a version, as much of it as is unique, or an alias; default: the challenger."
    ),
]


@policy_app.command()
def train(
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Also on few outcomes: the prior then weighs more than they do.")
    ] = False,
    home: Home = None,
) -> None:
    """Fit a candidate on what the ledger knows and make it the challenger; the gate decides about it later."""
    from router.learned_policies import learner_of, model_in

    settings = settings_at(home)
    with ledger_of(settings) as ledger:
        event = learner_of(settings, ledger, model_fingerprint=model_in(ledger)).train(anyway=anyway)
    if event is None:
        print("Nothing new to learn.")
        return
    print(f"{event.version_id}: {event.reason}.")
    print(
        "It is the challenger: judge it with `policy evaluate`, let it decide with `policy promote`.", file=sys.stderr
    )


@policy_app.command()
def evaluate(version: Version = "challenger", as_json: AsJson = False, home: Home = None) -> None:
    """Judge a version by all that came after it was fitted, every condition with its numbers; change nothing."""
    from router.learned_policies import learner_of, model_in

    settings = settings_at(home)
    with ledger_of(settings) as ledger:
        learner, chosen = learner_of(settings, ledger, model_fingerprint=model_in(ledger)), _named(ledger, version)
        verdict, worth = learner.verdict(chosen.version_id), {} if as_json else learner.worth(chosen.version_id)
    if as_json:
        print(verdict.as_json())
        return
    print(f"{verdict.outcome}, attempt {verdict.attempt}, {verdict.n_rows} rows")
    for each in verdict.conditions:
        print(f"  {'yes' if each.holds else 'no ' if each.holds is False else '?  '} {printable(each.said)}")
    for side, estimates in worth.items():
        print(f"utility a task of {side}, by estimator:")
        for name, found in estimates.items():
            print(f"  {name:<18} {found.value:+.4f} ± {found.std_error:.4f}")


@policy_app.command()
def promote(
    version: Version = "challenger",
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Kept in the ledger.")] = "by hand",
    home: Home = None,
) -> None:
    """Make a version the champion, past the gate: on your own judgement, which the ledger keeps."""
    with ledger_of(settings_at(home)) as ledger:
        versions, chosen = ledger.policy_versions, _named(ledger, version)
        moved = versions.promote(chosen.version_id, expected_epoch=versions.alias("champion").epoch, reason=reason)
    print(f"champion: {moved.version_id}, epoch {moved.epoch}.")


@policy_app.command()
def rollback(
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Kept in the ledger.")] = "by hand", home: Home = None
) -> None:
    """Make the champion before this one the champion again; before the first one it was nobody."""
    with ledger_of(settings_at(home)) as ledger:
        versions = ledger.policy_versions
        moved = versions.roll_back(expected_epoch=versions.alias("champion").epoch, reason=reason)
    if moved.version_id is None:
        print(f"champion: none, epoch {moved.epoch}. Who decided before there was one does so again.")
    else:
        print(f"champion: {moved.version_id}, epoch {moved.epoch}.")


@policy_app.command()
def status(as_json: AsJson = False, home: Home = None) -> None:
    """Say what is asked for and how far it is kept, who decides, and how far every version has come and why."""
    from router.granting import so_far

    settings = settings_at(home)
    with ledger_of(settings) as ledger:
        versions, kept = ledger.policy_versions, so_far(settings, ledger)
        aliases = {name: versions.alias(name).version_id for name in ("champion", "challenger", "previous")}
        told = [(version, versions.history(version.version_id)[-1]) for version in versions.all()]
    if as_json:
        listed = [
            {"version": version.version_id, "state": change.state, "at": change.created_at, "reason": change.reason}
            for version, change in told
        ]
        print(json.dumps({**aliases, "asked_for": kept.wish, "kept": kept.said, "versions": listed}))
        return
    print(f"{'asked for':<11} {kept.wish}: {kept.said}")
    for name, version_id in aliases.items():
        print(f"{name:<11} {version_id or 'none'}")
    for version, change in told:
        print(f"{version.version_id[:12]} {change.state:<10} {change.created_at}  {printable(change.reason)}")


@policy_app.command()
def tune(
    matrix: Annotated[Path, typer.Argument(metavar="MATRIX", help="A stored outcome matrix.")],
    trials: Annotated[int, typer.Option(min=1, help="Settings to try.")] = 50,
    price: Annotated[float, typer.Option(min=0, help="Of one mean cost of ttt, in accuracy.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Of the search.")] = 0,
) -> None:
    """Search for settings on an outcome matrix; print the frontier of accuracy and cost, and the setting to choose.
    Needs the extra `tune`.
    """
    from router.learned_policies import read_matrix, replay_on
    from router.tuning import tune as search

    found = search(replay_on(read_matrix(matrix)), price=price, n_trials=trials, seed=seed)
    print(f"{'accuracy':>8} {'cost':>6}  setting")
    for scored in found.frontier:
        setting = scored.setting
        mark = "  <- chosen" if scored is found.chosen else ""
        print(
            f"{scored.accuracy:>8.3f} {scored.cost:>6.3f}  TTT_ROUTER_PRICE={setting.price:.3f} "
            f"TTT_ROUTER_TEMPERATURE={setting.temperature:.3f} TTT_ROUTER_EPSILON={setting.explore:.3f}{mark}"
        )


def _named(ledger: Ledger, prefix: str) -> PolicyVersion:
    from policies.errors import UnknownVersion
    from policies.policy_versions import ALIASES

    versions = ledger.policy_versions
    wanted = (versions.alias(prefix).version_id or prefix) if prefix in ALIASES else prefix
    found = [each for each in versions.all() if each.version_id.startswith(wanted)]
    if len(found) != 1:
        raise UnknownVersion(prefix, ledger.location)
    return found[0]
