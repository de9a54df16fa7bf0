"""What is measured on: a model in a folder, which peers load anew, and the tasks.

Models of random weights stand in for sizes that are not at hand. What they write is noise and never ends by itself, so
every answer runs to its limit, in every variant; they are timed, not judged.
"""

from __future__ import annotations

import contextlib
import random
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging as hub_logging

from icl_engine.decoding import Constraint
from icl_engine.embedded.encoding import EmbeddedEncoding
from icl_engine.embedded.pretraining import PretrainingConfig, build_model
from icl_engine.embedded.vocabulary import N_COLOURS, PAD, START
from icl_engine.encoding import Encoding
from icl_engine.families import FAMILIES, HELD_OUT, sample_task
from icl_engine.language_model import load_model
from icl_engine.loaders import load_tasks
from icl_engine.task import LabelledTask, Task
from icl_engine.transformers_model import EMBEDDED_WEIGHTS, TransformersModel

N_DEMONSTRATIONS = 3  # of a generated task

# Models of the embedded kind, by name: weights of the layers
GRID_SHAPES = {
    "20k": PretrainingConfig(hidden_size=32, intermediate_size=64, layers=2, heads=2, axis_pairs=(2, 3, 3)),
    "1.0M": PretrainingConfig(hidden_size=128, intermediate_size=512, layers=4, heads=2),
    "6.3M": PretrainingConfig(hidden_size=256, intermediate_size=1024, layers=6, heads=4),
    "34M": PretrainingConfig(hidden_size=512, intermediate_size=2048, layers=8, heads=8),
}
LLAMA_1B = "llama-3.2-1b"
SHAPES = (*GRID_SHAPES, LLAMA_1B)
_LLAMA_1B = LlamaConfig(
    vocab_size=128_256,
    hidden_size=2048,
    intermediate_size=8192,
    num_hidden_layers=16,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=64,
    max_position_embeddings=4096,
    tie_word_embeddings=True,
    pad_token_id=PAD,
    bos_token_id=START,
    eos_token_id=None,
)


class Subject:
    """A model, its folder, and how to load it as anybody would."""

    def __init__(self, name: str, folder: Path, model: TransformersModel, *, random_weights: bool) -> None:
        self.name = name
        self.folder = folder
        self.model = model
        self.random_weights = random_weights

    @property
    def device(self) -> torch.device:
        return self.model.device

    def module(self) -> Any:
        """Load the model's module from its folder, as `from_pretrained` does it."""
        with quietly():
            module: Any = AutoModelForCausalLM.from_pretrained(
                self.folder, dtype=self.model.module.dtype, attn_implementation="sdpa", local_files_only=True
            )
        return module.to(self.device).eval()


def trained(folder: Path | None, device: str, dtype: str) -> Subject:
    """Return the model in a folder, or the embedded one."""
    folder = folder or EMBEDDED_WEIGHTS
    return Subject(folder.name, folder, load_model(str(folder), device=device, dtype=dtype), random_weights=False)


def untrained(name: str, folder: Path, device: torch.device) -> Subject:
    """Return a model of one of `SHAPES` with random weights, written into a folder; a large one on a GPU is of
    bfloat16, as `load_model` would have it.
    """
    dtype = torch.bfloat16 if name == LLAMA_1B and device.type == "cuda" else torch.float32
    encoding: Encoding
    if name == LLAMA_1B:
        with torch.random.fork_rng(), torch.device(device):
            torch.manual_seed(0)
            module: Any = LlamaForCausalLM(_LLAMA_1B)
        encoding = _PlainEndless(_LLAMA_1B.vocab_size)
    else:
        module = build_model(GRID_SHAPES[name])
        encoding = _Endless(module.config.vocab_size)
    module.generation_config.eos_token_id = None
    module = module.to(device=device, dtype=dtype)
    with quietly():
        module.save_pretrained(folder)
    return Subject(name, folder, TransformersModel(module, encoding, f"untrained/{name}"), random_weights=True)


def endless(subject: Subject) -> TransformersModel:
    """Return another copy of the model, whose answers are of colours and run to their limits."""
    module = subject.module()
    module.generation_config.eos_token_id = None
    plain = module.config.model_type != "grid_llama"
    encoding = (_PlainEndless if plain else _Endless)(module.config.vocab_size)
    return TransformersModel(module, encoding, subject.model.fingerprint)


def held_out_tasks(n: int, model: TransformersModel, *, most_tokens: int, seed: int = 0) -> list[LabelledTask]:
    """Draw grid and row tasks in turn from the families that are never trained on; those that are too long are left
    out.
    """
    families = [family for family in FAMILIES if family.name in HELD_OUT and family.kind != "text"]
    rngs = [random.Random(f"throughput/{family.name}:{seed}") for family in families]
    tasks: list[LabelledTask] = []
    for i in range(100 * n):
        family, rng = families[i % len(families)], rngs[i % len(families)]
        *shown, (query, solution) = sample_task(rng, family, N_DEMONSTRATIONS + 1)
        labelled = LabelledTask.parse(Task.from_pairs(shown, query, id=f"{family.name}_{i}"), [solution])
        if len(tasks) == n:
            break
        if _fits(labelled, model, most_tokens):
            tasks.append(labelled)
    return tasks


def tasks_of_file(path: Path, n: int | None, model: TransformersModel, *, most_tokens: int) -> list[LabelledTask]:
    """Read tasks in a form that `load_tasks` knows, ARC's among them; those that are too long are left out."""
    return [labelled for labelled in load_tasks(path) if _fits(labelled, model, most_tokens)][:n]


def task_of_tokens(n_tokens: int, seed: int) -> Task:
    """Return a task of square grids that are about `n_tokens` long together: each output is its input mirrored."""
    rng = random.Random(f"throughput/{n_tokens}:{seed}")
    side = 1
    while (N_DEMONSTRATIONS + 1) * 2 * (side + 1) * (side + 2) <= n_tokens:
        side += 1

    def grid() -> list[list[int]]:
        return [[rng.randrange(N_COLOURS) for _ in range(side)] for _ in range(side)]

    pairs = [(given, [row[::-1] for row in given]) for given in (grid() for _ in range(N_DEMONSTRATIONS))]
    return Task.from_pairs(pairs, grid(), id=f"mirrored_{side}_{seed}")


def _fits(labelled: LabelledTask, model: TransformersModel, most_tokens: int) -> bool:
    task = labelled.task
    if len(task.demonstrations) < 2:  # none could be left out
        return False
    asked = [task.for_query(i) for i in range(len(task.queries))]
    return all(
        len(model.encoding.encode(each, known).ids) <= most_tokens
        for each, known in zip(asked, labelled.solutions, strict=True)
    )


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep what the libraries say of themselves from the screen; what they raise comes through."""
    bars, level = hub_logging.is_progress_bar_enabled(), hub_logging.get_verbosity()
    hub_logging.disable_progress_bar()
    hub_logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        hub_logging.set_verbosity(level)
        if bars:
            hub_logging.enable_progress_bar()


class _Endless(EmbeddedEncoding):
    """The embedded model's way to write tasks, for a model that must not end its answers."""

    end_ids = frozenset[int]()

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary

    def constraint(self, tasks: Sequence[Task], device: torch.device) -> Constraint:
        """Allow colours alone."""
        return _Colours(len(tasks), self.vocabulary, device)


class _PlainEndless(_Endless):
    """The same for a model of ordinary positions."""

    def positions(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return (batch, tokens)."""
        return (mask.long().cumsum(dim=1) - 1).clamp(min=0)


class _Colours:
    def __init__(self, n_rows: int, vocabulary: int, device: torch.device) -> None:
        self.n_rows = n_rows
        self._row = (torch.arange(vocabulary, device=device) < N_COLOURS)[None]

    def allowed(self) -> torch.Tensor:
        return self._row.expand(self.n_rows, -1)

    def chose(self, tokens: Sequence[int | None]) -> None:
        pass

    def keep(self, rows: Sequence[int]) -> None:
        self.n_rows = len(rows)
