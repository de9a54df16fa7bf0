"""`ttt-router config`: what is set, and where it was set."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from router.cli_home import settings_at
from router.settings import Settings, told_of_unknown_variables
from router.values_shown import printable

config_app = typer.Typer(help="Show what is set, and where it was set.", no_args_is_help=True)


@config_app.callback()
def _root() -> None:
    """Keep `show` a command of its own: typer would let a single one take the group's place."""


@config_app.command()
def show(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
    home: Annotated[Path | None, typer.Option(metavar="DIR", help="Home folder whose settings are meant.")] = None,
    given: Annotated[bool, typer.Option("--given", help="Leave out what nobody has set.")] = False,
) -> None:
    """Print each setting, its value and where that came from; secrets are masked. Variables that are no setting are
    told of.
    """
    settings = settings_at(home)
    names = [name for name in Settings.model_fields if not given or settings.origin(name) != "default"]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for column in ("setting", "value", "origin"):
        table.add_column(column, overflow="fold")
    for name in names:
        value, origin = printable(settings.shown(name)), settings.origin(name)
        if as_json:
            about = Settings.model_fields[name].description
            print(json.dumps({"setting": name, "value": value, "origin": origin, "about": about}))
        else:
            table.add_row(name, Text(value), Text(origin))
    if not as_json:
        Console().print(table)
    for told in told_of_unknown_variables():
        print(printable(told), file=sys.stderr)
