"""Tiny language models with random weights, and small tasks for them: real code paths in milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from icl_engine.embedded.encoding import EmbeddedEncoding
from icl_engine.embedded.grid_llama import GridLlamaForCausalLM
from icl_engine.embedded.pretraining import PretrainingConfig, build_model
from icl_engine.reading import left_padded
from icl_engine.task import Task, Value
from icl_engine.transformers_model import TransformersModel

TINY = PretrainingConfig(
    hidden_size=32, intermediate_size=64, layers=2, heads=2, axis_pairs=(2, 3, 3), context_tokens=512
)

ROW_TASK = Task.from_pairs([([1, 2, 0], [0, 2, 1]), ([3, 0, 0], [0, 0, 3]), ([5, 5, 1, 0], [0, 1, 5, 5])], [4, 5, 0])
GRID_TASK = Task.from_pairs([([[1, 2], [3, 4]], [[2, 1], [4, 3]]), ([[0, 7, 1]], [[1, 7, 0]])], [[[4, 5], [1, 1]]])
TEXT_TASK = Task.from_pairs(
    [("not True", "False"), ("größer", "grün"), ("a b", "ab")], "not not True", instruction="Say what it is."
)
TASKS = (ROW_TASK, GRID_TASK, TEXT_TASK)
ANSWERS: tuple[Value, ...] = (((0, 5, 4),), ((5, 4), (1, 1)), "größer")  # what a taught model says to TASKS

# what a few steps of training teach even a tiny model: the answer is always the same, under every augmentation
CONSTANT_TASK = Task.from_pairs([([1, 2, 3], [0, 0]), ([4, 4], [0, 0]), ([5, 0, 6, 7], [0, 0])], [8, 1])
CONSTANT: Value = ((0, 0),)

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_SPECIAL = ["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
_LINES = ["Input:\n1 2 3\n0 0 4\nOutput:\n4 5\n\n", "Input:\nnot True\nOutput:\nFalse\n\n", "user assistant system"] * 4


def tiny_module(seed: int = 0, sharpness: float = 10.0) -> GridLlamaForCausalLM:
    """A Llama of the embedded kind; matrices are scaled up so that its likeliest tokens stand out from the rest."""
    module = build_model(replace(TINY, seed=seed))
    sharpen(module, sharpness)
    return module


def tiny_model(seed: int = 0, sharpness: float = 10.0) -> TransformersModel:
    return TransformersModel(tiny_module(seed, sharpness), EmbeddedEncoding(), f"tiny-{seed}-{sharpness:g}")


def taught_model() -> TransformersModel:
    """A tiny model that knows TASKS and their ANSWERS by heart, and nothing else."""
    module, encoding = tiny_module(sharpness=1.0), EmbeddedEncoding()
    sequences = [encoding.encode(task, answer) for task, answer in zip(TASKS, ANSWERS, strict=True)]
    ids, mask = left_padded([sequence.ids for sequence in sequences], encoding.pad_id, module.device)
    targets = torch.full_like(ids, -100)
    for row, sequence in enumerate(sequences):
        shift = ids.shape[1] - len(sequence.ids)
        for start, stop in sequence.outputs:
            targets[row, start + shift : stop + shift] = ids[row, start + shift : stop + shift]
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2)
    for _ in range(80):
        logits = module(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return TransformersModel(module, encoding, "taught")


def sharpen(module: Any, factor: float) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 2:
                parameter.mul_(factor)


class Anything:
    """A constraint that forbids nothing."""

    def __init__(self, n_rows: int, vocabulary_size: int) -> None:
        self.rows = torch.ones(n_rows, vocabulary_size, dtype=torch.bool)

    def allowed(self) -> torch.Tensor:
        return self.rows

    def chose(self, tokens: Sequence[int | None]) -> None:
        assert len(tokens) == len(self.rows)

    def keep(self, rows: Sequence[int]) -> None:
        self.rows = self.rows[list(rows)]


def tiny_tokenizer(*, chat: bool, eos: bool = True, vocabulary_size: int = 400) -> PreTrainedTokenizerFast:
    """A byte-level BPE, the kind that Llama 3 and Qwen have, trained on a few lines."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_LINES, trainer)
    names = {"pad_token": "<pad>", "bos_token": "<s>"} | (
        {"eos_token": "<|im_end|>" if chat else "</s>"} if eos else {}
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, additional_special_tokens=_SPECIAL[3:], **names)
    if chat:
        fast.chat_template = CHAT_TEMPLATE
    return fast


def save_tiny_llama(folder: Path, *, chat: bool = False, eos: bool = True, seed: int = 0, **shape: int) -> Path:
    return _save(LlamaForCausalLM, LlamaConfig, folder, chat=chat, eos=eos, seed=seed, **shape)


def save_tiny_qwen(folder: Path, *, chat: bool = True, eos: bool = True, seed: int = 0) -> Path:
    return _save(Qwen3ForCausalLM, Qwen3Config, folder, chat=chat, eos=eos, seed=seed, head_dim=16)


def save_tiny_qwen2(folder: Path) -> Path:
    return _save(Qwen2ForCausalLM, Qwen2Config, folder, chat=True, eos=True, seed=0)


def save_tiny_mistral(folder: Path, *, sliding_window: int) -> Path:
    return _save(MistralForCausalLM, MistralConfig, folder, chat=False, eos=True, seed=0, sliding_window=sliding_window)


def _save(module_class: Any, config_class: Any, folder: Path, *, chat: bool, eos: bool, seed: int, **more: int) -> Path:
    tokenizer = tiny_tokenizer(chat=chat, eos=eos)
    shape = {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 512, **more}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = module_class(
            config_class(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, **shape)
        )
    sharpen(module, 10.0)
    module.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
