"""The home that a command means: the option that names it, its settings, its ledger."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from router.settings import Settings

if TYPE_CHECKING:
    from policies.ledger import Ledger

Home = Annotated[Path | None, typer.Option(metavar="DIR", help="Home folder whose ledger is meant.")]


def settings_at(home: Path | None) -> Settings:
    """Return the settings, of this home or the one that they name themselves."""
    return Settings() if home is None else Settings(home=home)


def ledger_of(settings: Settings, *, existing: bool = False) -> Ledger:
    """Open the ledger that the settings name.

    Args:
        existing: one that is not there is not made.

    Raises:
        LedgerUnavailable: it cannot be opened, or is not there.
    """
    from policies.database import Place
    from policies.ledger import Ledger

    if existing:
        Place.of(settings.ledger_location).require_file()
    return Ledger.open(settings.ledger_location, files=settings.policy_folder)
