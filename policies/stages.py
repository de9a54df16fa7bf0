"""Stages: what may be found out of a task before it is decided on, the cheapest first.

A policy that knows nothing of stages decides on what the probe says and on the demonstrations held out; one that asks
for stages (`policies.abilities`) gets what it asks for. What is done for it is charged to the solve.
"""

from enum import IntEnum


class Stage(IntEnum):
    """Where a feature comes from; the later, the dearer."""

    STRUCTURE = 0  # the task as it stands, and the store of adapters
    PROBE = 1  # the answer in context, and what its pass tells; always run before a decision, the answer is the floor
    HELD_OUT = 2  # each demonstration held out in turn: does the prompt foretell it?
    VOTES = 3  # further views of the queries: do they agree?
    TRIAL = 4  # a training step or two, scored on a held-out demonstration
