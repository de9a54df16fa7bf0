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
from icl_engine.inference_settings import InferenceSettings
from icl_engine.language_model import Found, Generation, LanguageModel, OutputScore, Search, load_model
from icl_engine.leave_one_out import leave_one_out, leave_two_out
from icl_engine.loaders import load_tasks, take
from icl_engine.paper_views import LeaveOutView, paper_views
from icl_engine.probe import ProbeResult, probe
from icl_engine.scripted_model import ScriptedModel
from icl_engine.task import Demonstration, Grid, LabelledTask, Limits, Task, Value
from icl_engine.voting import Candidate, Vote, oracle, vote_by_score, vote_flat, vote_hierarchically

__all__ = [
    "Answer",
    "Augmentation",
    "Candidate",
    "ContextOverflow",
    "Demonstration",
    "FewShotError",
    "Found",
    "Generation",
    "Grid",
    "InferenceSettings",
    "LabelledTask",
    "LanguageModel",
    "LeaveOutView",
    "Limits",
    "ModelUnavailable",
    "OutOfMemory",
    "OutputScore",
    "ProbeResult",
    "ScriptedModel",
    "Search",
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
    "oracle",
    "paper_views",
    "probe",
    "random_augmentation",
    "take",
    "views",
    "vote_by_score",
    "vote_flat",
    "vote_hierarchically",
]
