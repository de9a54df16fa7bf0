"""A router for few-shot tasks: in-context learning or test-time training, decided per task.

Importing this loads neither torch nor langgraph; they come with the first task.
"""

from icl_engine.answer import Answer
from icl_engine.task import Demonstration, LabelledTask, Limits, Task
from router.added_arms import AddedArm
from router.router import Router, solve
from router.settings import Settings
from router.solution import Cost, Solution

__version__ = "0.1.0"

__all__ = [
    "AddedArm",
    "Answer",
    "Cost",
    "Demonstration",
    "LabelledTask",
    "Limits",
    "Router",
    "Settings",
    "Solution",
    "Task",
    "solve",
]
