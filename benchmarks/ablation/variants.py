"""The rows of the ablation: each is the default with one choice made otherwise, named by the router's settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from icl_engine.inference_settings import InferenceSettings, Precision
from icl_engine.transformers_model import TransformersModel
from router.settings import Settings
from ttt_engine.config import LoraSettings, TrainingSettings

Group = Literal["paper", "training", "adapter", "inference"]
# "none": in context; "own": trained on the task; "shared": on all tasks of a block, as many steps as for each alone;
# "pooled": as many as for one; "begun": that of "shared", trained further
Adapter = Literal["none", "own", "shared", "pooled", "begun"]
Kind = Literal["grid", "text"]

GRID: tuple[Kind, ...] = ("grid",)
TEXT: tuple[Kind, ...] = ("text",)
BOTH = GRID + TEXT


@dataclass(frozen=True, slots=True)
class Plan:
    """All that an answer hangs on beside the task: what is trained, and how it is answered with."""

    adapter: Adapter
    lora: LoraSettings | None
    training: TrainingSettings | None
    inference: InferenceSettings

    @property
    def trained(self) -> Plan:
        """What plans have in common that can do with one training."""
        adapter: Adapter = "shared" if self.adapter == "begun" else self.adapter
        return replace(self, adapter=adapter, inference=InferenceSettings())

    @property
    def asked(self) -> InferenceSettings:
        """What plans have in common that differ in their votes alone."""
        return replace(self.inference, vote="hierarchical", n_scored=InferenceSettings().n_scored)


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to answer tasks, by name."""

    name: str
    group: Group
    chosen: Mapping[str, object] = field(default_factory=dict)  # settings (router/settings.py)
    adapter: Adapter = "own"
    kinds: tuple[Kind, ...] = BOTH  # of tasks that it makes a difference to

    def plan(self, model: TransformersModel, kind: Kind, precision: Precision | None = None) -> Plan:
        """Return what this variant makes of tasks of a kind.

        Args:
            precision: of products in training, but for a variant that chooses it; None: as the settings say.
        """
        chosen = self.chosen if precision is None else {"ttt_precision": precision, **self.chosen}
        settings = Settings(**chosen)  # type: ignore[arg-type]  # pydantic checks them
        if self.adapter == "none":
            return Plan("none", None, None, settings.inference)
        preset = settings.ttt(model.n_parameters, bfloat16=model.prefers_bfloat16)
        return Plan(self.adapter, preset.lora, preset.training_for(kind), settings.inference)

    def is_the_default(self, model: TransformersModel, precision: Precision | None = None) -> bool:
        """Say whether it comes to what the default does with this model, in this precision."""
        default = VARIANTS[DEFAULT]
        return self is not default and all(
            self.plan(model, kind, precision) == default.plan(model, kind, precision) for kind in self.kinds
        )


DEFAULT = "the default"
IN_CONTEXT = "in context, no training"
NO_TRANSFORMATIONS = "no transformations (order alone)"
DIRECT = "direct input-output pairs"
LAST = "loss on the last output alone"
INPUTS_TOO = "loss on inputs too"
SHARED = "one adapter for a block of tasks"
POOLED = "one adapter for a block, in one task's steps (solve_many)"
# eight views of eight symmetries: a group of one view sends on its one grid alone, so both votes count the same
FLAT = "flat vote (by construction the default's, but on tasks of one row)"

_LEAN: Mapping[str, object] = {
    "ttt_preset": "small_narrow",
    "ttt_top_layers": 3,
    "ttt_max_sequences": 40,
    "ttt_softmax_over": "answers",
    "views_precision": "bf16",
}

_ALL: tuple[Variant, ...] = (
    # the rows of the paper, and what they are held against
    Variant(DEFAULT, "paper"),
    Variant(IN_CONTEXT, "paper", {"n_views": 1}, adapter="none"),
    Variant("in context, by vote", "paper", adapter="none"),
    Variant(NO_TRANSFORMATIONS, "paper", {"ttt_augmentation": "order"}, kinds=GRID),
    Variant(DIRECT, "paper", {"ttt_data": "direct"}),
    Variant(LAST, "paper", {"ttt_loss_on": "last"}),
    Variant(INPUTS_TOO, "paper", {"ttt_loss_on": "all"}),
    Variant(SHARED, "paper", adapter="shared"),
    Variant(POOLED, "paper", adapter="pooled"),
    Variant("a block's adapter, then a quarter of the steps", "paper", adapter="begun"),
    Variant(FLAT, "paper", {"vote": "flat"}, kinds=GRID),
    Variant("one view", "paper", {"n_views": 1}),
    # inference: of the default's adapter, so that these cost next to nothing
    Variant("candidates scored under all views", "inference", {"vote": "scored"}),
    Variant("search over the output tree", "inference", {"decode": "search"}),
    Variant("search, scored under all views", "inference", {"decode": "search", "vote": "scored"}),
    Variant("the paper's views", "inference", {"views": "paper", "n_views": 64}),
    Variant("32 views", "inference", {"n_views": 32}),
    Variant("views read in bfloat16", "inference", {"views_precision": "bf16"}),
    # data, loss, steps
    Variant("a quarter of the steps", "training", {"ttt_steps": 10, "ttt_token_budget": 40_000}, kinds=GRID),
    Variant(
        "a quarter of the steps, rate 5e-3",
        "training",
        {"ttt_steps": 10, "ttt_token_budget": 40_000, "ttt_learning_rate": 5e-3},
        kinds=GRID,
    ),
    Variant(
        "a quarter of the steps, half the sequences, twice the rate",
        "training",
        {"ttt_steps": 10, "ttt_batch_size": 2, "ttt_token_budget": 20_000, "ttt_learning_rate": 4e-3},
        kinds=GRID,
    ),
    Variant(
        "half the steps, half the sequences, rate 3e-3",
        "training",
        {"ttt_steps": 20, "ttt_batch_size": 2, "ttt_token_budget": 40_000, "ttt_learning_rate": 3e-3},
        kinds=GRID,
    ),
    Variant("half the sequences, rate 3e-3", "training", {"ttt_preset": "small_narrow"}, kinds=GRID),
    Variant(
        "half the sequences, rate 3e-3, top three layers",
        "training",
        {"ttt_preset": "small_narrow", "ttt_top_layers": 3},
        kinds=GRID,
    ),
    Variant(
        "as the row above, 40 different sequences, softmax over answers, views in bfloat16",
        "training",
        _LEAN,
        kinds=GRID,
    ),
    Variant(
        "as the row above, candidates scored under all views",
        "training",
        {**_LEAN, "vote": "scored"},
        kinds=GRID,
    ),
    Variant("softmax over answers", "training", {"ttt_softmax_over": "answers"}, kinds=GRID),
    Variant("a sequence a step", "training", {"ttt_batch_size": 1, "ttt_token_budget": 40_000}, kinds=GRID),
    Variant("early stop and giving up", "training", {"ttt_check_every": 4}),
    Variant("rate, rank and steps by the task", "training", {"ttt_auto": True}),
    Variant("leave-two-out as well", "training", {"ttt_data": "leave_two_out"}),
    Variant("shuffles of all demonstrations", "training", {"ttt_data": "shuffles"}),
    Variant("loss on every output", "training", {"ttt_loss_on": "outputs"}),
    Variant("no augmentation at all", "training", {"ttt_augmentation": "none"}),
    Variant("the paper's 23 augmentations", "training", {"ttt_augmentation": "paper"}, kinds=GRID),
    Variant("translation and scaling too", "training", {"ttt_augmentation": "visual"}, kinds=GRID),
    Variant("twice the steps", "training", {"ttt_steps": 80, "ttt_token_budget": 320_000}, kinds=GRID),
    Variant("products in full precision", "training", {"ttt_precision": "full"}),
    Variant("the preset for BIG-Bench Hard", "training", {"ttt_preset": "bbh"}, kinds=TEXT),
    # what is trained
    Variant("rank 4", "adapter", {"ttt_rank": 4, "ttt_alpha": 8.0}),
    Variant("rank 64", "adapter", {"ttt_rank": 64, "ttt_alpha": 128.0}),
    Variant("B matrices alone (frozen A)", "adapter", {"ttt_frozen_a": True}),
    Variant("dropout of a twentieth", "adapter", {"ttt_dropout": 0.05}),
    Variant("top three layers", "adapter", {"ttt_top_layers": 3}),
    Variant("attention matrices alone", "adapter", {"ttt_targets": ("q_proj", "k_proj", "v_proj", "o_proj")}),
    Variant("the output head too", "adapter", {"ttt_output_head": True}),
    Variant("a task token too", "adapter", {"ttt_task_token": True}),
    Variant("a task token alone", "adapter", {"ttt_rank": 0, "ttt_task_token": True, "ttt_learning_rate": 2e-2}),
    Variant("all weights", "adapter", {"ttt_method": "full", "ttt_learning_rate": 7e-4}),
)
VARIANTS: Mapping[str, Variant] = MappingProxyType({variant.name: variant for variant in _ALL})
GROUPS: tuple[Group, ...] = ("paper", "inference", "training", "adapter")
