"""How a task is trained on: the LoRA, the training loop and the augmented inference after it."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """The shape of the adapter."""

    rank: int = 16
    alpha: float = 32.0  # the update is scaled by alpha / rank
    target_modules: str | tuple[str, ...] = (
        "all-linear"  # attention and MLP matrices, whatever their names; not the head
    )


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """The training loop. Defaults are for models of a few million weights; an 8B model wants 1e-4 (the paper's Table
    6).
    """

    steps: int = 40
    batch_size: int = 4  # augmented leave-one-out tasks a step
    learning_rate: float = 2e-3  # of AdamW, falling linearly to 0
    max_norm: float = 1.0  # gradient clip
    token_budget: int = 160_000  # tokens read in training, about: a task too long for all steps gets fewer of them

    def shortened(self) -> TrainingSettings:
        """The `ttt_short` arm's loop: a quarter of the steps, and of the budget."""
        return replace(self, steps=max(1, self.steps // 4), token_budget=max(1, self.token_budget // 4))

    def steps_for(self, sequence_tokens: float) -> int:
        """Return how many steps the budget allows: at least one, at most `steps`.

        Args:
            sequence_tokens: mean length of a training sequence.
        """
        return min(self.steps, max(1, int(self.token_budget / (sequence_tokens * self.batch_size))))
