"""The browser's view of decision traces, on one's own machine: `ttt-router ui`. Needs the extra `[ui]`."""

from __future__ import annotations

from router.ui.app import Attached, RunArm, make_app

__all__ = ["Attached", "RunArm", "make_app"]
