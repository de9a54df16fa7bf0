"""Stages: what may be found out of a task before it is decided on, the cheapest first.

A policy that knows nothing of stages decides on what the probe says; one that asks for them (`policies.abilities`) has
what is done at its request charged to the solve.
"""

from enum import IntEnum


class Stage(IntEnum):
    """Where a feature comes from; the later, the dearer."""

    STRUCTURE = 0  # the task as it stands, and the store of adapters
    PROBE = 1  # the answer in context and the scores held out; always run before a decision, its answer is the floor
    VOTES = 2  # further views of the queries: do they agree?
    TRIAL = 3  # a training step or two, scored on a held-out demonstration
