"""Pretraining of the embedded model: rows in, weights out. Resumable at any kill, seeded, the same recipe on CPU and
GPU.

Muon trains the matrices of the layers, AdamW the embedding and the norms. The learning rate warms up, stays, and falls
linearly over the last part; a run may be continued with more steps from any checkpoint before the fall.
"""

import hashlib
import json
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file

from icl_engine.embedded.corpus import Corpus, load_extra, output_weights, task_ids, validation_tasks
from icl_engine.embedded.grid_llama import GridLlamaConfig, GridLlamaForCausalLM
from icl_engine.embedded.muon import Fp32Muon
from icl_engine.embedded.pieces import PIECES
from icl_engine.embedded.positions import positions_of, same_task
from icl_engine.embedded.vocabulary import BYTE_0, END, OUTPUT, PAD, PIECE_0, START, VOCABULARY_SIZE
from icl_engine.errors import FewShotError
from icl_engine.families import Pair
from icl_engine.worker_processes import worker_pool

_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"
N_VALIDATION_TASKS = 60  # of each kind


class CheckpointMismatch(FewShotError):
    """A checkpoint was made with another shape, seed or corpus than the run that wants to go on from it."""


@dataclass(frozen=True, slots=True)
class PretrainingConfig:
    """The recipe. The defaults have the shape of the shipped model, whose card says how it was made; `LARGE` is for a
    GPU.
    """

    hidden_size: int = 192
    intermediate_size: int = 512
    layers: int = 5
    heads: int = 3
    axis_pairs: tuple[int, int, int] = (8, 12, 12)  # rotary pairs of a head for value, column, row
    context_tokens: int = 4096
    steps: int = 4000
    rows: int = 8  # a step
    row_tokens: int = 1024
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    decay_share: float = 0.3  # last part of the steps, over which the rate falls linearly to a hundredth
    weight_decay: float = 0.05
    max_norm: float = 1.0  # gradient clip
    seed: int = 0
    checkpoint_every: int = 200  # steps
    validate_every: int = 200  # steps


# For one GPU of 40 GiB or more: 29 million weights, rows that hold whole tasks of large grids.
LARGE = PretrainingConfig(
    hidden_size=512, intermediate_size=1408, layers=9, heads=8, steps=8000, rows=32, row_tokens=4096, warmup_steps=200
)


@dataclass(frozen=True, slots=True)
class Progress:
    """What a step reports; the validation figures are those of the latest validation."""

    step: int
    steps: int
    loss: float  # nats per output token, this step
    held_out_loss: float  # nats per output token, families never trained on
    held_out_accuracy: Mapping[str, float]  # by kind: share of their last outputs entirely right in context
    seen_accuracy: Mapping[str, float]  # the same of families trained on, fresh draws
    tokens_per_s: float
    seconds: float  # of this run


def build_model(config: PretrainingConfig) -> GridLlamaForCausalLM:
    """Return a model with fresh weights drawn from the config's seed."""
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        return GridLlamaForCausalLM(
            GridLlamaConfig(
                vocab_size=VOCABULARY_SIZE,
                hidden_size=config.hidden_size,
                intermediate_size=config.intermediate_size,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                num_key_value_heads=config.heads,
                axis_pairs=config.axis_pairs,
                tie_word_embeddings=True,
                max_position_embeddings=config.context_tokens,
                pad_token_id=PAD,
                bos_token_id=START,
                eos_token_id=END,
            )
        )


def pretrain(
    config: PretrainingConfig,
    out: Path,
    *,
    extra_data: Path | None = None,
    start_from: Path | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    compiled: bool = True,
) -> Path:
    """Train to `config.steps`, going on from the checkpoint in `out` if there is one; return the folder of the weights.

    Args:
        start_from: folder of weights of the same shape to begin with, instead of fresh ones.

    Raises:
        CheckpointMismatch: the checkpoint in `out` belongs to another recipe or is beyond `config.steps`, or
            `start_from` is of another shape.
        UnreadableTaskFile: `extra_data` cannot be read.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = build_model(config)
    if start_from is not None:
        _fill(model, start_from)
    model.to(device)  # type: ignore[arg-type]
    optimizers = optimizers_of(model, config)
    corpus = Corpus.of(extra=load_extra(extra_data) if extra_data else None)
    origin = None if start_from is None else _sha256(start_from / "model.safetensors")
    checkpoint = _Checkpoint(out / "checkpoint", config, corpus.fingerprint, origin)
    first_step = checkpoint.load(model, optimizers)
    if first_step > config.steps:
        raise CheckpointMismatch(
            f"{checkpoint.folder} has {first_step} steps behind it, more than the {config.steps} asked for. "
            f"Ask for more, or use another folder."
        )
    held_out, seen = (
        validation_tasks(Corpus.of(held_out=is_held_out), N_VALIDATION_TASKS, seed=1) for is_held_out in (True, False)
    )
    loss_of = torch.compile(loss_on_rows, dynamic=False) if compiled else loss_on_rows
    measured: tuple[float, Mapping[str, float], Mapping[str, float]] = (float("nan"), {}, {})
    started = time.monotonic()

    for step, rows in _rows_ahead(corpus, extra_data, config, first_step, ahead=device.type == "cuda"):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * rate_at(step, config)
        weights = torch.from_numpy(output_weights(rows)).to(device)
        loss = loss_of(model, torch.from_numpy(rows).to(device), weights)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_norm)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        done = step + 1
        if done % config.validate_every == 0 or done == config.steps:
            measured = (*validate(model, held_out), validate(model, seen)[1])
        if done % config.checkpoint_every == 0 or done == config.steps:
            checkpoint.save(model, optimizers, done)
        seconds = time.monotonic() - started
        tokens_per_s = (done - first_step) * rows.size / seconds
        report(Progress(done, config.steps, loss.item(), *measured, tokens_per_s, seconds))
    return save_weights(model, out / "model")


def _rows_ahead(
    corpus: Corpus, extra_data: Path | None, config: PretrainingConfig, first_step: int, *, ahead: bool
) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """Yield (step, its rows); `ahead`, other processes make them before they are wanted: a GPU would wait for them."""
    steps = range(first_step, config.steps)
    if not ahead:
        for step in steps:
            yield step, corpus.rows(config.rows, config.row_tokens, config.seed, step)
        return
    n_workers = max(1, min(8, (os.cpu_count() or 2) - 1))
    with worker_pool(n_workers, _open_corpus, (extra_data,)) as pool:
        made: deque[tuple[int, Future[npt.NDArray[np.int64]]]] = deque()
        for step in steps:
            made.append((step, pool.submit(_rows_of, config.rows, config.row_tokens, config.seed, step)))
            if len(made) > 4 * n_workers:
                done, rows = made.popleft()
                yield done, rows.result()
        for done, rows in made:
            yield done, rows.result()


_corpus: Corpus  # of a worker process


def _open_corpus(extra_data: Path | None) -> None:
    global _corpus
    _corpus = Corpus.of(extra=load_extra(extra_data) if extra_data else None)


def _rows_of(n_rows: int, n_tokens: int, seed: int, step: int) -> npt.NDArray[np.int64]:
    return _corpus.rows(n_rows, n_tokens, seed, step)


def rate_at(step: int, config: PretrainingConfig) -> float:
    """Return the learning rate at `step` as a share of the highest: warm-up, plateau, linear fall to 0.01."""
    fall = max(1, round(config.decay_share * config.steps))
    left = (config.steps - step) / fall
    return min((step + 1) / config.warmup_steps, 1.0, max(left, 0.01))


def save_weights(model: GridLlamaForCausalLM, folder: Path) -> Path:
    """Write config and weights (fp16 safetensors) in Hugging Face form and return the folder."""
    half = GridLlamaForCausalLM(GridLlamaConfig(**model.config.to_dict())).to(torch.float16)  # type: ignore[arg-type]
    half.load_state_dict({name: tensor.half() for name, tensor in model.state_dict().items()})
    half.save_pretrained(folder)
    return folder


@torch.no_grad()
def validate(model: GridLlamaForCausalLM, tasks: Mapping[str, list[list[Pair]]]) -> tuple[float, dict[str, float]]:
    """Return (nats per token of the last output; by kind, the share of last outputs entirely right), teacher-forced:
    exact match there is what greedy decoding without a grammar would give.
    """
    model.train(False)
    nll, n_tokens, right = 0.0, 0, {}
    for kind, tasks_of_kind in tasks.items():
        n_right = 0
        for pairs in tasks_of_kind:
            ids = torch.tensor([task_ids(pairs)], device=model.device)
            start = int((ids[0] == OUTPUT).nonzero()[-1])
            logits = model(input_ids=ids, use_cache=False).logits[0, start:-1].float()
            target = ids[0, start + 1 :]
            nll += float(torch.nn.functional.cross_entropy(logits, target, reduction="sum"))
            n_tokens += len(target)
            n_right += int((logits.argmax(-1) == target).all())
        right[kind] = n_right / len(tasks_of_kind)
    model.train()
    return nll / n_tokens, right


def _fill(model: GridLlamaForCausalLM, folder: Path) -> None:
    """Take the weights in `folder`, all of them or none; to those from before the pieces, rows for them are added."""
    own = model.state_dict()
    given = load_file(folder / "model.safetensors")
    embedding = given.get(_EMBEDDING)
    if embedding is not None and len(embedding) == PIECE_0:
        given[_EMBEDDING] = _with_pieces(embedding)
    own.pop(_HEAD, None)  # tied
    given.pop(_HEAD, None)
    if {name: tensor.shape for name, tensor in own.items()} != {name: tensor.shape for name, tensor in given.items()}:
        raise CheckpointMismatch(f"the weights in {folder} are of another shape than this recipe's. Give its shape.")
    model.load_state_dict({name: tensor.float() for name, tensor in given.items()}, strict=False)


def _with_pieces(embedding: torch.Tensor) -> torch.Tensor:
    """Add a row for each piece, (VOCABULARY_SIZE, hidden): the mean of its bytes' rows, and a little noise
    that tells pieces of the same letters apart.
    """
    known = embedding.float()
    new = torch.stack([known[[BYTE_0 + byte for byte in piece.encode()]].mean(0) for piece in PIECES])
    noise = torch.randn(new.shape, generator=torch.Generator().manual_seed(0)) * known.std() * 0.3
    return torch.cat([known, new + noise]).half()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def loss_on_rows(model: GridLlamaForCausalLM, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy over output tokens, nats; ids (rows, tokens), weights (rows, tokens - 1)."""
    with torch.autocast(ids.device.type, torch.bfloat16, enabled=_has_bf16(ids.device)):
        hidden = model.model(
            input_ids=ids, attention_mask=same_task(ids), position_ids=positions_of(ids), use_cache=False
        ).last_hidden_state  # (rows, tokens, hidden)
        logits = model.lm_head(hidden[:, :-1])  # (rows, tokens - 1, vocabulary)
    nll = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    return (nll * weights.flatten()).sum() / weights.sum()


def _has_bf16(device: torch.device) -> bool:
    """Say whether bf16 products are fast here; where the processor lacks them they are emulated, slower than fp32."""
    return device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()


def optimizers_of(
    model: GridLlamaForCausalLM, config: PretrainingConfig
) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """Return Muon for the matrices of the layers and AdamW for the embedding and the norms."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    rest = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    rate, decay = config.learning_rate, config.weight_decay
    # match_rms_adamw scales Muon's update so that one learning rate serves both optimisers
    kind = torch.optim.Muon if _has_bf16(next(model.parameters()).device) else Fp32Muon
    muon = kind(matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
    return muon, torch.optim.AdamW(rest, lr=rate, weight_decay=0.0, betas=(0.9, 0.95))


class _Checkpoint:
    """Weights and optimiser state as safetensors in one folder, replaced as a whole, so that a kill leaves the old or
    the new.
    """

    def __init__(
        self, folder: Path, config: PretrainingConfig, corpus_fingerprint: str, origin: str | None = None
    ) -> None:
        self.folder = folder
        recipe = asdict(replace(config, steps=0, checkpoint_every=0, validate_every=0))
        self.recipe = json.loads(json.dumps({**recipe, "corpus": corpus_fingerprint, "started_from": origin}))

    def load(self, model: torch.nn.Module, optimizers: tuple[torch.optim.Optimizer, ...]) -> int:
        """Restore model and optimisers; return the number of steps done, 0 where there is no checkpoint."""
        self._recover()
        if not self.folder.exists():
            return 0
        about = json.loads((self.folder / "about.json").read_text())
        if about["recipe"] != self.recipe:
            raise CheckpointMismatch(
                f"{self.folder} was made with {about['recipe']}; this run has {self.recipe}. Use another folder."
            )
        weights = load_file(self.folder / "model.safetensors")
        model.load_state_dict({**weights, _HEAD: weights[_EMBEDDING]})  # tied
        for i, optimizer in enumerate(optimizers):
            state = load_file(self.folder / f"optimizer_{i}.safetensors")
            restored: dict[int, dict[str, torch.Tensor]] = {}
            for name, tensor in state.items():
                index, key = name.split("/")
                restored.setdefault(int(index), {})[key] = tensor
            optimizer.load_state_dict({"state": restored, "param_groups": optimizer.state_dict()["param_groups"]})
        return int(about["step"])

    def save(self, model: torch.nn.Module, optimizers: tuple[torch.optim.Optimizer, ...], step: int) -> None:
        """Write beside the old checkpoint, then take its place."""
        new = self.folder.with_name("checkpoint.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if name != _HEAD}  # tied
        save_file(tensors, new / "model.safetensors")
        for i, optimizer in enumerate(optimizers):
            save_file(dict(_flat_state(optimizer)), new / f"optimizer_{i}.safetensors")
        (new / "about.json").write_text(json.dumps({"step": step, "recipe": self.recipe}, indent=1))
        old = self.folder.with_name("checkpoint.old")
        shutil.rmtree(old, ignore_errors=True)  # a kill may have left it
        if self.folder.exists():
            self.folder.rename(old)
        new.rename(self.folder)
        shutil.rmtree(old, ignore_errors=True)

    def _recover(self) -> None:
        """Finish a replacement that a kill interrupted between its two renames."""
        old = self.folder.with_name("checkpoint.old")
        if old.exists() and not self.folder.exists():
            old.rename(self.folder)


def _flat_state(optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, torch.Tensor]]:
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            if isinstance(value, torch.Tensor):
                yield f"{index}/{key}", value.contiguous()
