"""Few-shot tasks, and answering them in context.

Importing this loads no torch; `load_model` does, when it is called.
"""

from icl_engine.answer import Answer
from icl_engine.augmentations import Augmentation, random_augmentation, views
from icl_engine.errors import (
    ContextOverflow,
    FewShotError,
    ModelUnavailable,
    OutOfMemory,
    TaskRefused,
    TaskTooLarge,
    TooFewDemonstrations,
    UnreadableTaskFile,
)
from icl_engine.language_model import Generation, LanguageModel, OutputScore, load_model
from icl_engine.leave_one_out import leave_one_out, leave_two_out
from icl_engine.loaders import load_tasks, take
from icl_engine.probe import ProbeResult, probe
from icl_engine.scripted_model import ScriptedModel
from icl_engine.task import Demonstration, Grid, LabelledTask, Limits, Task, Value
from icl_engine.voting import Candidate, Vote, vote_flat, vote_hierarchically

__all__ = [
    "Answer",
    "Augmentation",
    "Candidate",
    "ContextOverflow",
    "Demonstration",
    "FewShotError",
    "Generation",
    "Grid",
    "LabelledTask",
    "LanguageModel",
    "Limits",
    "ModelUnavailable",
    "OutOfMemory",
    "OutputScore",
    "ProbeResult",
    "ScriptedModel",
    "Task",
    "TaskRefused",
    "TaskTooLarge",
    "TooFewDemonstrations",
    "UnreadableTaskFile",
    "Value",
    "Vote",
    "leave_one_out",
    "leave_two_out",
    "load_model",
    "load_tasks",
    "probe",
    "random_augmentation",
    "take",
    "views",
    "vote_flat",
    "vote_hierarchically",
]
