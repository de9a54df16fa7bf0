"""The commit that results are made with, where the packages lie in a checkout."""

from __future__ import annotations

import subprocess
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]


def commit_here() -> str:
    """Return the short hash of this checkout's commit, with `-dirty` where files differ; "" where it is none."""
    if not (_ROOT / ".git").exists():  # installed, perhaps amid a repository that is another's
        return ""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=_ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
