"""What each choice of the pretraining recipe is worth: variants of it, each trained from fresh weights for equal time.

    python benchmarks/ablate_pretraining.py --minutes 7 --smaller-steps 4 --extra-data re-arc-pairs.jsonl.gz

Prints one row per variant: tokens read, in all and a second, nats a token on families that are never trained on, and
the share of their last outputs right in context, by kind. A variant's rate falls at the end of its time, as the
recipe's does.
"Half of the time" says what tokens are worth; all others have the same time. "Another seed" has other weights to begin
with and other tasks, and says how far apart two variants must be before it means anything.
Equal time is equal work only where nothing else runs; tokens a second show whether it was so.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from icl_engine.embedded import grid_llama, pretraining
from icl_engine.embedded.corpus import KINDS, Corpus, ExtraData, load_extra, output_weights, validation_tasks
from icl_engine.embedded.grid_llama import GridLlamaForCausalLM, GridRotaryEmbedding
from icl_engine.embedded.pretraining import PretrainingConfig, build_model, optimizers_of, validate
from icl_engine.embedded.vocabulary import OUTPUT, START

RECIPE = PretrainingConfig()
WARM_UP_STEPS = 50


@dataclass(frozen=True, slots=True)
class Variant:
    """The recipe with one choice made otherwise."""

    name: str
    config: PretrainingConfig = RECIPE
    extra: bool = True
    all_outputs: bool = True  # else the loss is on the last output of each task alone
    grid_positions: bool = True  # else plain ones: the place in the task
    muon: bool = True
    all_grid_families: bool = True  # else every second one
    share_of_time: float = 1.0


VARIANTS = (
    Variant("the recipe"),
    Variant("the recipe, another seed", replace(RECIPE, seed=1)),
    Variant("plain positions", grid_positions=False),
    Variant("no re-arc pairs", extra=False),
    Variant("half of the time", share_of_time=0.5),
    Variant("half of the grid families", all_grid_families=False),
    Variant("loss on the last output alone", all_outputs=False),
    Variant("wider and shallower", replace(RECIPE, hidden_size=256, intermediate_size=704, layers=3, heads=4)),
    Variant("narrower and deeper", replace(RECIPE, hidden_size=128, intermediate_size=352, layers=11, heads=2)),
    Variant("AdamW instead of Muon", muon=False),
    Variant("shorter rows (16 of 512)", replace(RECIPE, rows=16, row_tokens=512)),
)


def with_smaller_steps(variants: Sequence[Variant], n: int) -> list[Variant]:
    """Return the variants with an n-th of the rows in a step."""
    return [replace(each, config=replace(each.config, rows=max(1, each.config.rows // n))) for each in variants]


def last_output_only(rows: npt.NDArray[np.int64], weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Keep the weights of the last output of each task in a row."""
    kept = np.zeros_like(weights)
    for row, old, new in zip(rows, weights, kept, strict=True):
        starts = [*np.flatnonzero(row == START), len(row)]
        for start, stop in pairwise(starts):
            outputs = np.flatnonzero(row[start:stop] == OUTPUT)
            if len(outputs):
                new[start + outputs[-1] : stop - 1] = old[start + outputs[-1] : stop - 1]
    return kept


def plain_positions(ids: torch.Tensor) -> torch.Tensor:
    """Return the place in the task on all three axes."""
    place = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    start = torch.cummax(torch.where(ids == START, place, 0), dim=1).values
    return torch.stack([place - start] * 3)


def adamw_of(optimizers: Sequence[torch.optim.Optimizer]) -> torch.optim.AdamW:
    """Return AdamW for all that the recipe's optimisers train, each with the weight decay it has there."""
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    chosen = [{"params": group["params"], "weight_decay": group["weight_decay"]} for group in groups]
    return torch.optim.AdamW(chosen, betas=(0.9, 0.95))


def corpus_of(variant: Variant, extra: ExtraData) -> Corpus:
    """Return what a variant is trained on."""
    corpus = Corpus.of(extra=extra if variant.extra else None)
    if variant.all_grid_families:
        return corpus
    return Corpus({**corpus.families, "grid": corpus.families["grid"][::2]}, corpus.extra)


def turn_as_llama(model: GridLlamaForCausalLM) -> None:
    """Give plain positions, which stand on the second axis, Llama's period."""
    model.config.axis_theta = [1.0, 10_000.0, 1.0]
    model.model.rotary_emb = GridRotaryEmbedding(model.config)


def train(variant: Variant, extra: ExtraData, minutes: float) -> tuple[int, float, Mapping[str, float]]:
    """Train a variant; return tokens read, held-out nats a token, and the shares right by kind."""
    torch._dynamo.reset()
    original = pretraining.positions_of
    config = variant.config
    if not variant.grid_positions:
        pretraining.positions_of = grid_llama.positions_of = plain_positions
        config = replace(config, axis_pairs=(0, sum(config.axis_pairs), 0))
    try:
        model = build_model(config)
        if not variant.grid_positions:
            turn_as_llama(model)
        optimizers: tuple[torch.optim.Optimizer, ...] = optimizers_of(model, config)
        if not variant.muon:
            optimizers = (adamw_of(optimizers),)
        corpus = corpus_of(variant, extra)
        loss_of = torch.compile(pretraining.loss_on_rows, dynamic=False)
        began, step, n_tokens = 0.0, 0, 0
        while True:
            spent = 0.0 if step == 0 else (time.monotonic() - began) / (60 * minutes)
            if spent >= 1.0:
                break
            warm = (step + 1) / WARM_UP_STEPS  # or a tenth of the time, so that short runs are not all warm-up
            rate = min(max(warm, spent / 0.1), 1.0, max((1.0 - spent) / config.decay_share, 0.01))
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = config.learning_rate * rate
            rows = corpus.rows(config.rows, config.row_tokens, config.seed, step)
            weights = output_weights(rows)
            weights = weights if variant.all_outputs else last_output_only(rows, weights)
            loss_of(model, torch.from_numpy(rows), torch.from_numpy(weights)).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_norm)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            n_tokens += rows.size
            step += 1
            if step == 1:
                began = time.monotonic()  # the first step compiles
        held_out = validation_tasks(Corpus.of(held_out=True), pretraining.N_VALIDATION_TASKS, seed=1)
        return n_tokens, *validate(model, held_out)
    finally:
        pretraining.positions_of = grid_llama.positions_of = original


def main() -> None:
    """Train every variant and print its row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=4.0, help="of training, each variant")
    parser.add_argument("--extra-data", type=Path, required=True)
    parser.add_argument(
        "--smaller-steps",
        type=int,
        default=1,
        metavar="N",
        help="divide the rows of a step by N, so that a short time has more steps",
    )
    parser.add_argument("--only", action="append", help="Name of a variant; all by default.")
    given = parser.parse_args()
    if given.smaller_steps < 1:
        parser.error("--smaller-steps must be at least 1.")
    extra = load_extra(given.extra_data)
    print("Nothing else may run: every variant has the same time, not the same work.", file=sys.stderr)
    names = ("variant", "weights (million)", "tokens (million)", "tokens a second", "held out: nats a token", *KINDS)
    print(f"| {' | '.join(names)} |")
    print("|---" * len(names) + "|")
    for variant in with_smaller_steps(VARIANTS, given.smaller_steps):
        if given.only and variant.name not in given.only:
            continue
        n_weights = sum(p.numel() for p in build_model(variant.config).parameters())
        minutes = variant.share_of_time * given.minutes
        n_tokens, nats, right = train(variant, extra, minutes)
        shares = " | ".join(f"{right[kind]:.0%}" for kind in KINDS)
        read = f"{n_tokens / 1e6:.2f} | {n_tokens / (60 * minutes):,.0f}"
        print(f"| {variant.name} | {n_weights / 1e6:.1f} | {read} | {nats:.3f} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
