"""What can go wrong in the benchmark beyond its outcomes."""

from __future__ import annotations

from icl_engine.errors import FewShotError


class PlotsUnavailable(FewShotError):
    """There is nothing to draw plots with."""

    def __init__(self) -> None:
        super().__init__("matplotlib, which draws the plots, is not installed. Install ttt-router[report].")
