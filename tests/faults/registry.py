"""The harnesses of this folder, and the table of what they found in `docs/reliability.md`."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.faults.harness import Figure, Harness

FOLDER = Path(__file__).resolve().parent
DOCUMENT = FOLDER.parents[1] / "docs" / "reliability.md"
BEGIN = "<!-- figures: written by `make faults`, do not edit -->"
END = "<!-- end of figures -->"
HEAD = (
    "| harness | what is done | figure | found | target | met | made on | commit | command |",
    "|---|---|---|---|---|---|---|---|---|",
)


def discovered(folder: Path = FOLDER, package: str = "tests.faults") -> tuple[Harness, ...]:
    """Return the harness of every module in `folder` that has one, by name.

    Modules that only harnesses' children run, and tests, are not looked into.
    """
    names = sorted(found.name for found in pkgutil.iter_modules([str(folder)]))
    looked_at = [name for name in names if not name.startswith(("test_", "__"))]
    modules = [importlib.import_module(f"{package}.{name}") for name in looked_at]
    harnesses = [module.HARNESS for module in modules if isinstance(getattr(module, "HARNESS", None), Harness)]
    return tuple(sorted(harnesses, key=lambda harness: harness.name))


def chosen(harnesses: Iterable[Harness], only: str | None) -> tuple[Harness, ...]:
    """Return those that `only` names: names, or beginnings of names, separated by commas; None names all.

    Raises:
        ValueError: a name that none of them has.
    """
    harnesses = tuple(harnesses)
    if only is None:
        return harnesses
    wanted = [name.strip() for name in only.split(",") if name.strip()]
    for name in wanted:
        if not any(_is_named(harness, name) for harness in harnesses):
            raise ValueError(f"no harness {name!r}; there are {', '.join(harness.name for harness in harnesses)}")
    return tuple(harness for harness in harnesses if any(_is_named(harness, name) for name in wanted))


def rows(harness: Harness, figures: Sequence[Figure], *, date: str, commit: str) -> list[str]:
    """Return the lines of the table that say what one harness found."""
    return [
        _row(
            harness.name, harness.what, found.figure, found.value, found.target, "yes" if found.met else "**NO**",
            date, commit, f"`{harness.command}`",
        )
        for found in figures
    ]  # fmt: skip


def with_rows(document: str, new: dict[str, list[str]]) -> str:
    """Return `document` with the lines of each harness in `new` put in place of its earlier ones; the rest stays.

    Raises:
        ValueError: the markers of the table are not in the document.
    """
    before, begin, rest = document.partition(BEGIN)
    table, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the markers {BEGIN} and {END} are not in the document")
    kept: dict[str, list[str]] = {}
    for line in table.splitlines():
        name = re.match(r"\| ([^|]+?) \|", line)
        if name is not None and line not in HEAD:
            kept.setdefault(name[1], []).append(line)
    kept.update(new)
    lines = [line for name in sorted(kept) for line in kept[name]]
    return before + "\n".join([BEGIN, *HEAD, *lines, END]) + after


def _is_named(harness: Harness, name: str) -> bool:
    return harness.name == name or harness.name.startswith(f"{name}-")


def _row(*cells: str) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "/") for cell in cells) + " |"
