"""How a task is trained on: the LoRA, the training loop and the augmented inference after it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from icl_engine.errors import TaskRefused
from icl_engine.inference_settings import Precision

DataForm = Literal["leave_one_out", "leave_two_out", "shuffles", "direct"]
AugmentationForm = Literal["invertible", "order", "none", "paper", "visual"]
Method = Literal["lora", "full"]
LossOn = Literal["after_first", "last", "outputs", "all"]
SoftmaxOver = Literal["vocabulary", "answers"]
Schedule = Literal["linear", "cosine", "constant"]


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """What is trained: the shape of the adapter. All of it is part of an adapter's key.

    Raises:
        TaskRefused: a choice is not among those known or out of its bounds, or two of them do not go together.
    """

    rank: int = 16  # 0: no LoRA, the task token alone
    alpha: float = 32.0  # the update is scaled by alpha / rank
    target_modules: str | tuple[str, ...] = (
        "all-linear"  # attention and MLP matrices, whatever their names; not the head
    )
    top_layers: int | None = field(default=None, kw_only=True)  # the last so many of each stack are adapted; None: all
    output_head: bool = False  # the language model's head gets a LoRA too (the paper: of its 8B models)
    frozen_a: bool = False  # A stays as it is drawn and B alone is trained (LoRA-FA)
    dropout: float = 0.0  # share of a layer's inputs that its LoRA does not see in a step of training
    task_token: bool = False  # a learned vector besides, added to the embedding of every token
    method: Method = "lora"  # "full": all weights of the model, of one task at a time; the shape above plays no part
    max_full_weights: int = 50_000_000  # of a model that "full" is let loose on

    def __post_init__(self) -> None:
        _check_known("method", self.method, get_args(Method))
        parts = [name for name in ("top_layers", "output_head", "frozen_a", "dropout") if getattr(self, name)]
        if self.dropout and self.output_head:  # whose learned places are not told apart by their rows
            remedy = "Leave one of them off."
            raise TaskRefused("it does not go with output_head", field="dropout", remedy=remedy)
        if self.top_layers is not None and self.top_layers < 1:
            raise TaskRefused(f"got {self.top_layers}", field="top_layers", remedy="Give at least 1, or None.")
        if not 0.0 <= self.dropout < 1.0:
            raise TaskRefused(f"got {self.dropout}", field="dropout", remedy="Give at least 0 and less than 1.")
        if self.rank < 0:
            raise TaskRefused(f"got {self.rank}", field="rank", remedy="Give at least 1, or 0 with task_token.")
        if parts and (self.method == "full" or self.rank == 0):
            remedy = "Use method='lora' with a rank of at least 1, or leave it off."
            raise TaskRefused("it is a trait of a LoRA, and none is trained", field=parts[0], remedy=remedy)
        if self.rank == 0 and self.method == "lora" and not self.task_token:
            raise TaskRefused("got 0, with nothing to train", field="rank", remedy="Give at least 1, or task_token.")


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """The training data, the loss and the loop. Defaults are for models of a few million weights; an 8B model wants a
    learning rate of 1e-4 (the paper's Table 6).

    Raises:
        TaskRefused: a choice is not among those known, or `max_sequences`, `used_rank` or `check_every` is below one.
    """

    steps: int = 40
    batch_size: int = 4  # sequences a step
    learning_rate: float = 2e-3  # of AdamW, the highest
    schedule: Schedule = "linear"  # how the rate falls to 0 after the warm-up
    warmup_share: float = 0.0  # of the steps, over which the rate rises to its highest
    max_norm: float = 1.0  # gradient clip
    precision: Precision = "full"  # of the products: the weights' own, or bfloat16
    # tokens read in training, about: a task too long for all steps gets fewer of them; a family, a step each at least
    token_budget: int = 160_000
    data: DataForm = "leave_one_out"  # what a sequence shows and asks: ttt_engine.training_data
    augmentation: AugmentationForm = "invertible"  # what each sequence is drawn under: ttt_engine.augmenters
    loss_on: LossOn = "after_first"  # the tokens that are learned: ttt_engine.loss
    # what a learned token is told apart from: all others, or those that outputs of the task's kind are made of, as when
    # it is answered
    softmax_over: SoftmaxOver = field(default="vocabulary", kw_only=True)
    # different sequences drawn on (the paper: 250), with check_every between one look and the next; None: each is drawn
    # anew
    max_sequences: int | None = None
    used_rank: int | None = None  # of the adapter's rank, how much is trained; the rest stays 0; None: all
    auto: bool = False  # choose learning rate, rank and steps by the task's early curve (ttt_engine.auto)
    check_every: int | None = None  # steps between looks at a held-out demonstration (ttt_engine.checks); None: none

    def __post_init__(self) -> None:
        _check_known("data", self.data, get_args(DataForm))
        _check_known("augmentation", self.augmentation, get_args(AugmentationForm))
        _check_known("loss_on", self.loss_on, get_args(LossOn))
        _check_known("softmax_over", self.softmax_over, get_args(SoftmaxOver))
        if self.softmax_over == "answers" and self.loss_on == "all":
            raise TaskRefused(
                "inputs are learned, too, and are made of other tokens",
                field="softmax_over",
                remedy="Leave it at 'vocabulary', or loss_on at another choice.",
            )
        _check_known("schedule", self.schedule, get_args(Schedule))
        _check_known("precision", self.precision, get_args(Precision))
        for name in ("max_sequences", "used_rank", "check_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise TaskRefused(f"got {value}", field=name, remedy="Give at least 1, or None.")

    def shortened(self) -> TrainingSettings:
        """The `ttt_short` arm's loop: a quarter of the steps, and of the budget."""
        return replace(self, steps=max(1, self.steps // 4), token_budget=max(1, self.token_budget // 4))

    def rate_at(self, step: int, steps: int) -> float:
        """Return the learning rate of a step, counted from 0, of `steps`."""
        warmup = self.warmup_share * steps
        if step + 1 < warmup:
            return self.learning_rate * (step + 1) / warmup
        done = (step - max(warmup - 1, 0)) / (steps - max(warmup - 1, 0))  # 0 to 1, of the fall
        left = {"linear": 1.0 - done, "cosine": 0.5 * (1.0 + math.cos(math.pi * done)), "constant": 1.0}
        return self.learning_rate * left[self.schedule]

    def steps_for(self, sequence_tokens: float) -> int:
        """Return how many steps the budget allows: at least one, at most `steps`.

        Args:
            sequence_tokens: mean length of a training sequence.
        """
        return min(self.steps, max(1, int(self.token_budget / (sequence_tokens * self.batch_size))))


def _check_known(field: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise TaskRefused(f"got {value!r}", field=field, remedy=f"Known are {', '.join(known)}.")
