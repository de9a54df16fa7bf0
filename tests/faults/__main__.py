"""Run the harnesses in full and write what they found into `docs/reliability.md`: `python -m tests.faults`.

Exit code 1 where a target is missed or a harness breaks off; what the others found is written all the same.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import traceback
from datetime import UTC, datetime

from tests.faults.harness import Harness
from tests.faults.registry import DOCUMENT, chosen, discovered, rows, with_rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--only", metavar="NAME,...", help="these harnesses, or all whose names begin so")
    parser.add_argument("--short", action="store_true", help="the short forms; nothing is written")
    parser.add_argument("--list", action="store_true", help="say which there are, and run none")
    arguments = parser.parse_args()
    try:
        harnesses = chosen(discovered(), arguments.only)
    except ValueError as error:
        parser.error(str(error))
    if arguments.list:
        for harness in harnesses:
            print(f"{harness.name:<24} {harness.what} ({harness.target})")
        return 0
    met = [
        _run(harness, full=not arguments.short, n=f"{i} of {len(harnesses)}") for i, harness in enumerate(harnesses, 1)
    ]
    return 0 if all(met) else 1


def _run(harness: Harness, *, full: bool, n: str) -> bool:
    """Run one harness, print and keep what it found; return whether every target is met."""
    print(f"[{n}] {harness.name}: {harness.what}", file=sys.stderr, flush=True)
    started = time.monotonic()
    commit = _commit()
    try:
        figures = harness.run(full)
    except Exception:  # a harness that breaks off must not keep the others from running
        traceback.print_exc()
        print(f"  broke off after {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        return False
    for found in figures:
        print(
            f"  {'met   ' if found.met else 'MISSED'} {found.figure}: {found.value} (target: {found.target})",
            flush=True,
        )
    print(f"  {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    if full:
        made = rows(harness, figures, date=datetime.now(UTC).date().isoformat(), commit=commit)
        DOCUMENT.write_text(with_rows(DOCUMENT.read_text(), {harness.name: made}))
    return bool(figures) and all(found.met for found in figures)


def _commit() -> str:
    """Return the commit that is checked out, with a plus where files differ from it (but for the table itself)."""
    try:
        name = _git("rev-parse", "--short", "HEAD")
        changed = _git("status", "--porcelain", "--", ".", f":!{DOCUMENT.relative_to(DOCUMENT.parents[1])}")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{name}+" if changed else name


def _git(*arguments: str) -> str:
    root = DOCUMENT.parents[1]
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
