"""What every engine may ask of a language model: answer tasks, and say how surprised it is by given outputs.

`ScriptedModel` answers from a function, for tests and examples; `load_model` gives the real ones. Importing this loads
no torch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from icl_engine.task import Task, Value
from icl_engine.text_form import GridForm

if TYPE_CHECKING:
    from icl_engine.transformers_model import TransformersModel


@dataclass(frozen=True, slots=True)
class OutputScore:
    """How a model takes one given output, teacher-forced."""

    nll: float  # nats, whole output with its end
    n_tokens: int  # the end included
    exact: bool  # every token was the likeliest: greedy decoding would have written this output

    @property
    def nll_per_token(self) -> float:
        """Nats per token."""
        return self.nll / self.n_tokens


@dataclass(frozen=True, slots=True)
class Generation:
    """One greedy answer."""

    value: Value | None  # None where the tokens form no value of the task's kind, or never ended
    token_log_probabilities: tuple[float, ...]  # nats, of each token chosen, the end included
    prompt_tokens: int
    # each demonstration's output given the ones before it, from the same pass; empty where that was not asked for
    demonstrations: tuple[OutputScore, ...]
    token_entropies: tuple[float, ...] = ()  # nats, of the choice of each token; empty where the model does not tell
    token_margins: tuple[float, ...] = ()  # nats between each token and the runner-up; empty likewise
    # of the last layer at the prompt's end, from the same pass; empty where no scores were asked for, or not told
    hidden: tuple[float, ...] = ()

    @property
    def log_probability(self) -> float:
        """Nats, of the whole answer."""
        return sum(self.token_log_probabilities)

    @property
    def tokens(self) -> int:
        """Read and written."""
        return self.prompt_tokens + len(self.token_log_probabilities)


@dataclass(frozen=True, slots=True)
class Found:
    """An answer that search found."""

    value: Value
    log_probability: float  # nats, the end included


@dataclass(frozen=True, slots=True)
class Search:
    """All answers to one task that are likely enough."""

    greedy: Generation  # however unlikely
    found: tuple[Found, ...]  # different values at or above the cut-off, best first; the greedy one among them if it is
    tokens: int  # read and written


@dataclass(frozen=True, slots=True)
class RowAdapters:
    """Which adapter each task is answered with, where several lie side by side on a model."""

    slots: Sequence[int]  # of each task
    use: Callable[[Sequence[int]], None]  # told the slots of the rows of the coming passes; one slot is for all rows


class LanguageModel(Protocol):
    """A model that answers few-shot tasks. Tasks given to it have one query each; further queries are ignored."""

    @property
    def fingerprint(self) -> str:
        """Names the weights: other weights, other fingerprint."""
        ...

    @property
    def context_tokens(self) -> int: ...

    def fits(self, task: Task, answer: Value | None = None) -> bool:
        """Say whether the task, and the answer if one is given, fit the context."""
        ...

    def generate(
        self,
        tasks: Sequence[Task],
        *,
        score_demonstrations: bool = False,
        drafts: Sequence[Value | None] | None = None,
        adapters: RowAdapters | None = None,
    ) -> list[Generation]:
        """Answer each task greedily.

        Args:
            score_demonstrations: tell of the prompt, too, what is read off the same pass: how the demonstrations'
                outputs score and, where the model can, its hidden state.
            adapters: of each task, where they differ; None: the model as it is.
            drafts: for each task what its answer may be, if anything is known. They change no answer, only what it
                takes: one pass where the draft is what the model would write, token by token from where it is not.

        Raises:
            ContextOverflow: a prompt leaves no room for an answer.
            OutOfMemory: not even one prompt fits the device's memory.
        """
        ...

    def search(self, tasks: Sequence[Task], *, cut_off: float) -> list[Search]:
        """Answer each task greedily and with every answer whose probability is at least `cut_off`.

        Raises:
            ContextOverflow: a prompt leaves no room for an answer.
            OutOfMemory: not even one prompt fits the device's memory.
        """
        ...

    def score(
        self, answered: Sequence[tuple[Task, Value]], *, adapters: RowAdapters | None = None
    ) -> list[OutputScore]:
        """Score each answer to its task. One task may be given with several answers.

        Args:
            adapters: of each answered task, where they differ; None: the model as it is.

        Raises:
            ContextOverflow: a task with its answer is longer than the context.
            OutOfMemory: not even one sequence fits the device's memory.
        """
        ...


def load_model(
    name_or_path: str | None = None, *, device: str = "auto", dtype: str = "auto", grid_form: GridForm = "spaced"
) -> TransformersModel:
    """Load a causal language model: a directory or hub id, or the embedded model where nothing is given.

    Args:
        device: "auto" takes CUDA where there is one, else the CPU; or any torch device.
        dtype: "auto" takes bfloat16 on CUDA and float32 on the CPU; or "float32", "bfloat16", "float16";
            or "4bit": weights quantised as they are loaded, for training adapters of models too large otherwise, which
            needs CUDA and `pip install ttt-router[qlora]`.
        grid_form: how grids are written for a model with a tokenizer, see `text_form`; the embedded one has a way of
            its own.

    Raises:
        ModelUnavailable: there is no such model here, or it cannot be loaded.
    """
    from icl_engine.transformers_model import TransformersModel

    return TransformersModel.load(name_or_path, device=device, dtype=dtype, grid_form=grid_form)


def as_transformers(model: LanguageModel) -> TransformersModel | None:
    """Return the model where it is one that transformers runs and that can be trained, else None; loads no torch to
    tell the difference.
    """
    loaded = sys.modules.get("icl_engine.transformers_model")  # by whoever made such a model
    return model if loaded is not None and isinstance(model, loaded.TransformersModel) else None
