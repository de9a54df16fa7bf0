"""Where solves wait that share one model and run in threads of their own: see `Router.solve_among`."""

from __future__ import annotations

from ttt_engine.lane import Lane

_PROBED_AT_ONCE = 8  # few: who asks for a decision alone waits for no more than these


class Lanes:
    """One lane for what is asked in context, one for training and trained answers: neither waits for the other."""

    def __init__(self) -> None:
        self.probing = Lane(at_once=_PROBED_AT_ONCE)
        self.training = Lane()
