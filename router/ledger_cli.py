"""`ttt-router ledger`: look at the ledger, save what can be read of a damaged one, hand its rows on.

Like the other commands it reads the arguments, calls one function and prints what that gives; torch never loads.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from router.cli_home import Home, settings_at
from router.values_shown import printable

ledger_app = typer.Typer(help="Check the ledger, recover a damaged one, export its rows.", no_args_is_help=True)

Where = Annotated[
    str | None,
    typer.Argument(metavar="[LEDGER]", help="File, home folder or SQL URL; default: the one in the settings."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]

DAMAGED = 4  # the exit code where something is wrong, as for any dependency that is down


@ledger_app.command()
def check(ledger: Where = None, as_json: AsJson = False, home: Home = None) -> None:
    """Look for damage in all of it: pages, rows, references, triggers, policy files; exit code 4 if there is any."""
    from policies.checking import check as look

    settings = settings_at(home)
    findings = look(ledger or settings.ledger_location, files=None if ledger else settings.policy_folder)
    if as_json:
        for finding in findings:
            print(json.dumps(asdict(finding)))
    else:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for finding in findings:
            table.add_row(finding.check, Text(printable(finding.found), style="green" if finding.ok else "red"))
        Console().print(table)
    raise typer.Exit(0 if all(finding.ok for finding in findings) else DAMAGED)


@ledger_app.command()
def recover(
    ledger: Where = None,
    to: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Save it there, and leave the damaged file where it is.")
    ] = None,
    home: Home = None,
) -> None:
    """Save what can be read of a damaged SQLite ledger, and say what is lost. Stop what uses it first."""
    from policies.recovery import recover as save

    recovery = save(ledger or settings_at(home).ledger_location, to=to)
    if not recovery.tables:
        print(f"{recovery.saved_in} is whole: there was nothing to recover.")
        return
    print(f"{'rows of':<16} {'saved':>8} {'missing':>8} {'damaged':>8} {'refused':>8}")
    for table in recovery.tables:
        missing = "unknown" if table.missing is None else table.missing
        print(f"{table.table:<16} {table.saved:>8} {missing:>8} {table.damaged:>8} {table.refused:>8}")
    print(f"Saved in {recovery.saved_in}.")
    if recovery.damaged_kept_as is not None:
        print(f"The damaged file is kept as {recovery.damaged_kept_as}.")
    if recovery.rest_kept_as is not None:
        print(f"Rows that are damaged, or refer to what is lost, are in {recovery.rest_kept_as}.")


@ledger_app.command()
def export(
    ledger: Where = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Default: standard output.")] = None,
    home: Home = None,
) -> None:
    """Write every row as JSON lines, tables after those they refer to, as of one moment."""
    from policies.database import Place
    from policies.ledger import Ledger

    where = ledger or settings_at(home).ledger_location
    Place.of(where).require_file()  # opening would make one
    with Ledger.open(where) as opened:
        lines = (json.dumps({"table": table, **row}, ensure_ascii=False) for table, row in opened.rows())
        if out is None:
            _write(lines, sys.stdout)
        else:
            with out.open("w", encoding="utf-8") as file:
                _write(lines, file)


def _write(lines: Iterator[str], file: IO[str]) -> None:
    for line in lines:
        print(line, file=file)
