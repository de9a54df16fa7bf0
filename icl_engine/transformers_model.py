"""A language model over transformers: any causal LM directory or hub id, or the embedded model.

Owns the weights and one lock: calls from several threads take turns. Adapters are put on it from outside (ttt_engine);
it answers with whatever weights are active.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import importlib.util
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from transformers.utils import logging as hub_logging

import icl_engine.embedded.grid_llama  # noqa: F401  registers the class with the Auto classes
from icl_engine.decoding import Decoded, decode
from icl_engine.encoding import Encoded, Encoding, most_output_tokens
from icl_engine.errors import ContextOverflow, ModelUnavailable, OutOfMemory
from icl_engine.inference_settings import Precision
from icl_engine.language_model import Found, Generation, OutputScore, RowAdapters, Search
from icl_engine.llama_passes import written_out
from icl_engine.pass_lock import PassLock, end_team
from icl_engine.reading import OnRead, can_forget, left_padded, read_prompts, watching
from icl_engine.scoring import (
    PromptMemory,
    ReadPrompts,
    SlotPrompt,
    places_before_outputs,
    scores_after_prompts,
    scores_of_outputs,
)
from icl_engine.searching import Leaf, search
from icl_engine.task import Task, Value
from icl_engine.text_form import GRID_FORMS, GridForm

EMBEDDED_WEIGHTS = Path(__file__).parent / "embedded" / "weights"
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
FOUR_BIT = "4bit"
_REMEDY = (
    "Give a directory with config.json, safetensors weights and a tokenizer, or a hub id that can be reached; with no "
    "model given the embedded one is used."
)
_BATCH_TOKENS = {"cpu": 16_384, "cuda": 131_072}  # prompt tokens in one pass, padding included
_BATCH_LOGITS = {"cpu": 2**27, "cuda": 2**30}  # logits in one pass, rows * places * vocabulary; 4 to 12 bytes each
_REMEMBERED_TOKENS = {"cpu": 8_192, "cuda": 32_768}  # of prompts whose answers may be scored, padding included
_HASHED_WHOLE_BYTES = 64 * 2**20
_SAMPLE_BYTES = 4096  # of each tensor of a larger file
_Arguments = ParamSpec("_Arguments")
_Said = TypeVar("_Said")


def _without_memory_if_need_be(ask: Callable[_Arguments, _Said]) -> Callable[_Arguments, _Said]:
    """Let a model be asked once more where memory ran out while it remembered prompts, which it then no longer does."""

    @functools.wraps(ask)
    def asked(*arguments: _Arguments.args, **named: _Arguments.kwargs) -> _Said:
        try:
            return ask(*arguments, **named)
        except OutOfMemory:
            model = arguments[0]
            assert isinstance(model, TransformersModel)
            with model.lock:
                if model._memory is None or not model._memory.give_up():
                    raise
        return ask(*arguments, **named)  # what the failed pass held is let go first

    return asked


class TransformersModel:
    """The `LanguageModel` over a transformers module and an encoding; see `load`.

    Attributes:
        module: the transformers model, in evaluation mode.
        encoding: how tasks are written for it.
        lock: held during every pass; training holds it too.
    """

    def __init__(self, module: Any, encoding: Encoding, fingerprint: str) -> None:
        self.module = module.eval()
        for parameter in module.parameters():
            parameter.requires_grad_(False)
        self.encoding = encoding
        self.fingerprint = fingerprint
        self.lock = PassLock()
        self._can_forget = can_forget(module)
        self._precision: Precision = "full"
        self._memory: PromptMemory | None = None
        self._twin: TransformersModel | None = None
        end_team()  # loading computes too

    @classmethod
    def load(
        cls,
        name_or_path: str | None = None,
        *,
        device: str = "auto",
        dtype: str = "auto",
        grid_form: GridForm = "spaced",
    ) -> TransformersModel:
        """See `icl_engine.load_model`."""
        target = _device(device)
        source = str(EMBEDDED_WEIGHTS) if name_or_path is None else name_or_path
        if _is_path(source) and not Path(source).is_dir():  # of which the hub would say that it is no name
            raise ModelUnavailable(f"cannot load the model {source!r}: there is no such folder", remedy=_REMEDY)
        bars = hub_logging.is_progress_bar_enabled()
        hub_logging.disable_progress_bar()  # a bar for each loaded tensor says nothing to our callers
        try:
            return cls._load(source, target, dtype, grid_form)
        except ModelUnavailable:
            raise
        except Exception as error:  # the libraries that read configs, weights and tokenizers share no root
            first_line = str(error).strip().split("\n")[0]
            raise ModelUnavailable(f"cannot load the model {source!r}: {first_line}", remedy=_REMEDY) from error
        finally:
            if bars:
                hub_logging.enable_progress_bar()

    @classmethod
    def _load(cls, source: str, device: torch.device, dtype_name: str, grid_form: GridForm) -> TransformersModel:
        config = AutoConfig.from_pretrained(source)
        if not getattr(config, "max_position_embeddings", None):
            raise ModelUnavailable(f"the config of {source!r} names no max_position_embeddings", remedy="Add it.")
        # a model of a few million weights is fast enough in fp32
        small = config.model_type == "grid_llama" and dtype_name == "auto"
        four_bit = dtype_name == FOUR_BIT
        dtype = torch.float32 if small else torch.bfloat16 if four_bit else _dtype(dtype_name, device)
        pair: Any = AutoModelForCausalLM.from_pretrained(
            source,
            dtype=dtype,
            attn_implementation="sdpa",
            use_safetensors=True,
            output_loading_info=True,
            **(_four_bit_arguments(device) if four_bit else {}),
        )
        module, loaded = pair
        if loaded["missing_keys"]:  # transformers would draw them at random and only warn
            raise ModelUnavailable(
                f"the weights in {source!r} lack {sorted(loaded['missing_keys'])[0]!r}",
                remedy="Give all files of the model, unchanged.",
            )
        encoding: Encoding
        if config.model_type == "grid_llama":
            from icl_engine.embedded.encoding import EmbeddedEncoding

            encoding = EmbeddedEncoding()
        else:
            from icl_engine.tokenizer_encoding import TokenizerEncoding

            ends = module.generation_config.eos_token_id
            turn_ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
            tokenizer = AutoTokenizer.from_pretrained(source)
            encoding = TokenizerEncoding(tokenizer, module.config.vocab_size, turn_ends, grid_form=grid_form)
        placed = module if four_bit else module.to(device)
        written = "spaced" if config.model_type == "grid_llama" else grid_form  # which has a way of its own
        return cls(placed, encoding, _fingerprint(source, config, FOUR_BIT if four_bit else str(dtype), written))

    def twin(self) -> TransformersModel:
        """Return a model on the very same weights, with modules and a lock of its own.

        Passes on it do not wait for passes on this one, and an adapter that is put on either does not show on the
        other. It takes no memory but that of its passes. There is one, made at the first call.
        """
        if self._twin is not None:  # without waiting for whoever trains
            return self._twin
        with self.lock:  # so that nothing of an adapter is copied
            if self._twin is not None:
                return self._twin
            shared: dict[int, Any] = {id(buffer): buffer for buffer in self.module.buffers()}
            for parameter in self.module.parameters():
                plain = type(parameter) is torch.nn.Parameter  # a quantised one holds more than its tensor
                weights = parameter.detach()
                shared[id(parameter)] = torch.nn.Parameter(weights, requires_grad=False) if plain else parameter
            self._twin = TransformersModel(copy.deepcopy(self.module, shared), self.encoding, self.fingerprint)
            return self._twin

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = self.module.device
        return device

    @property
    def prefers_bfloat16(self) -> bool:
        """Whether products in bfloat16 are quicker where the model is, and its weights more precise."""
        if self.device.type != "cpu" or self.module.dtype != torch.float32:
            return False
        known: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # torch before 2.13 does not tell
        return bool(known.get("avx512_bf16") or known.get("amx_bf16"))

    @property
    def context_tokens(self) -> int:
        """The longest sequence the model was made for."""
        return int(self.module.config.max_position_embeddings)

    @property
    def n_parameters(self) -> int:
        """Weights of the base model."""
        return int(self.module.num_parameters())  # knows how many lie packed in a quantised tensor

    def encode(self, task: Task, answer: Value | None = None) -> Encoded:
        """Write a task as tokens.

        Raises:
            ContextOverflow: it is longer than the context.
        """
        encoded = self.encoding.encode(task, answer)
        if len(encoded.ids) >= self.context_tokens:
            raise ContextOverflow(
                f"got a prompt of {len(encoded.ids)} tokens for a context of {self.context_tokens}",
                field="demonstrations",
                remedy="Give fewer or smaller demonstrations, or a model with a longer context.",
                task_id=task.id,
            )
        return encoded

    def fits(self, task: Task, answer: Value | None = None) -> bool:
        """Say whether the task, and the answer if one is given, fit the context."""
        return len(self.encoding.encode(task, answer).ids) < self.context_tokens

    @contextlib.contextmanager
    def reading_in(self, precision: Precision = "full", *, remembering: bool = False) -> Iterator[None]:
        """Let what is asked within a with block be read in a precision; see `InferenceSettings`. Holds the lock.

        Args:
            remembering: keep what is read of prompts that are answered, as far as there is room, so that answers to
                them are scored without reading them again. Leave the weights as they are meanwhile. Within such a block
                another of the same precision goes on with what it knows.
        """
        with self.lock:
            before = self._precision, self._memory
            if self._memory is None or precision != self._precision:
                room = self._limit(_REMEMBERED_TOKENS)
                self._memory = PromptMemory(room) if remembering and self._can_forget else None
            self._precision = precision
            try:
                yield
            finally:
                self._precision, self._memory = before

    def _written_out(self) -> contextlib.AbstractContextManager[None]:
        return written_out(self.module, self._precision)

    @_without_memory_if_need_be
    def generate(
        self,
        tasks: Sequence[Task],
        *,
        score_demonstrations: bool = False,
        drafts: Sequence[Value | None] | None = None,
        adapters: RowAdapters | None = None,
    ) -> list[Generation]:
        """Answer each task greedily; see `LanguageModel`. Demonstrations that several tasks share are read once."""
        if drafts is None or not self._can_forget:
            drafts = [None] * len(tasks)
        prompts = [
            self._prompt(task, draft, scored=score_demonstrations) for task, draft in zip(tasks, drafts, strict=True)
        ]
        results: dict[int, Generation] = {}
        with self.lock, typed_out_of_memory(), self._written_out():
            for batch, n_shared in self._batches_that_share(prompts, slots=adapters.slots if adapters else ()):
                rows = replace(adapters, slots=[adapters.slots[i] for i in batch]) if adapters else None
                asked = [prompts[i] for i in batch]
                n_passes = 2 if n_shared else 1  # to the prompts' ends: what is shared is read before
                with watching(self.module, n_passes if score_demonstrations else 0) as seen:
                    said = self._generate(asked, n_shared, rows)
                if seen and not any(each.draft for each in asked):  # a draft stands behind the prompt's end
                    said = [replace(one, hidden=tuple(h)) for one, h in zip(said, seen[-1][:, 0].tolist(), strict=True)]
                results.update(zip(batch, said, strict=True))
        return [results[i] for i in range(len(tasks))]

    @_without_memory_if_need_be
    def search(self, tasks: Sequence[Task], *, cut_off: float) -> list[Search]:
        """Find every likely answer to each task; see `LanguageModel`."""
        prompts = [self._prompt(task) for task in tasks]
        results: dict[int, Search] = {}
        with self.lock, typed_out_of_memory(), self._written_out():
            for batch, n_shared in self._batches_that_share(prompts, n_branches=1 + int(1 / cut_off)):
                found = self._search([prompts[i] for i in batch], n_shared, cut_off)
                results.update(zip(batch, found, strict=True))
        return [results[i] for i in range(len(tasks))]

    @_without_memory_if_need_be
    def score(
        self, answered: Sequence[tuple[Task, Value]], *, adapters: RowAdapters | None = None
    ) -> list[OutputScore]:
        """Score given answers; see `LanguageModel`. A prompt that several answers follow is read once
        in a batch, and not at all where it is remembered.
        """
        encoded = [self.encode(task, answer) for task, answer in answered]
        rows = [replace(each, outputs=each.outputs[-1:]) for each in encoded]
        slots = [0] * len(rows) if adapters is None else adapters.slots
        prompts = [(slot, row.ids[: row.outputs[0][0]]) for slot, row in zip(slots, rows, strict=True)]
        use = (lambda _: None) if adapters is None else adapters.use
        alone, behind = self._by_reader(prompts)
        results: dict[int, OutputScore] = {}
        with self.lock, torch.inference_mode(), typed_out_of_memory(), self._written_out():
            for of_alone in self._batches([rows[i] for i in alone]):
                batch = sorted((alone[place] for place in of_alone), key=lambda i: slots[i])
                use([slots[i] for i in batch])
                results.update(zip(batch, self._scores_alone([rows[i] for i in batch]), strict=True))
            for known, places in behind:
                for batch in self._batches_behind(places, rows, prompts, known):
                    said = self._scores_behind([rows[i] for i in batch], [prompts[i] for i in batch], known, use)
                    results.update(zip(batch, said, strict=True))
        return [results[i] for i in range(len(answered))]

    def _by_reader(self, prompts: Sequence[SlotPrompt]) -> tuple[list[int], list[tuple[ReadPrompts | None, list[int]]]]:
        """Return the places of prompts that one answer follows, and of those behind which answers are read: by the pass
        that has read them already, or, several answers to one prompt, without any.
        """
        counts, alone = Counter(prompts), []
        behind: dict[int, tuple[ReadPrompts | None, list[int]]] = {}
        for i, prompt in enumerate(prompts):
            known = None if self._memory is None else self._memory.of(prompt)
            if known is None and (counts[prompt] == 1 or not self._can_forget):
                alone.append(i)
            else:
                behind.setdefault(id(known), (known, []))[1].append(i)
        return alone, list(behind.values())

    def _batches_behind(
        self, places: Sequence[int], rows: Sequence[Encoded], prompts: Sequence[SlotPrompt], known: ReadPrompts | None
    ) -> Iterator[list[int]]:
        """Yield places in batches under the device's limits, by slots, the answers to a prompt after each other."""
        most_tokens, most_logits = self._limit(_BATCH_TOKENS), self._limit(_BATCH_LOGITS)
        n_own = {i: rows[i].outputs[0][1] - rows[i].outputs[0][0] for i in places}
        widths = {i: len(rows[i].ids) if known is None else known.reading.ids.shape[1] + n_own[i] for i in places}
        first: dict[SlotPrompt, int] = {}
        for i in places:
            first.setdefault(prompts[i], i)
        batch: list[int] = []
        for i in sorted(places, key=lambda i: (prompts[i][0], -len(prompts[i][1]), first[prompts[i]], i)):
            more = [*batch, i]
            n_tokens = len(more) * max(widths[each] for each in more)
            n_logits = len(more) * max(n_own[each] for each in more) * int(self.module.config.vocab_size)
            if batch and (n_tokens > most_tokens or n_logits > most_logits):
                yield batch
                more = [i]
            batch = more
        if batch:
            yield batch

    def _scores_behind(
        self,
        rows: Sequence[Encoded],
        prompts: Sequence[SlotPrompt],
        known: ReadPrompts | None,
        use: Callable[[Sequence[int]], None],
    ) -> list[OutputScore]:
        """Score one batch, each row's one output, behind prompts that are read once, now or before."""
        if known is None:
            different = list(dict.fromkeys(prompts))
            use([slot for slot, _ in different])
            reading, _, last = read_prompts(
                self.module,
                [ids for _, ids in different],
                pad_id=self.encoding.pad_id,
                positions=self.encoding.positions,
            )
            known = ReadPrompts(different, reading, last[:, -1])
        use([slot for slot, _ in prompts])
        return scores_after_prompts(known, prompts, [row.ids[slice(*row.outputs[0])] for row in rows])

    def _scores_alone(self, rows: Sequence[Encoded]) -> list[OutputScore]:
        """Score one batch, each row's one output, in one pass over prompts and answers."""
        ids, mask = left_padded([row.ids for row in rows], self.encoding.pad_id, self.device)
        places = places_before_outputs(rows, ids.shape[1])
        logits = self.module(
            input_ids=ids,
            attention_mask=mask,
            position_ids=self.encoding.positions(ids, mask),
            use_cache=False,
            logits_to_keep=torch.tensor(places, device=self.device),
        ).logits
        return [score for (score,) in scores_of_outputs(rows, ids, places, logits)]

    def _remembered(self, prompts: Sequence[_Prompt], slots: Sequence[int]) -> OnRead:
        """Return what takes note of prompts that are read, without a draft, if that is wanted."""
        memory = self._memory
        if memory is None or any(each.draft for each in prompts):
            return lambda reading, last_logits: None
        keys = [(slot, each.encoded.ids) for slot, each in zip(slots, prompts, strict=True)]
        return lambda reading, last_logits: memory.add(keys, reading, last_logits)

    def _prompt(self, task: Task, draft: Value | None = None, *, scored: bool = False) -> _Prompt:
        encoded = self.encode(task)
        limit = min(most_output_tokens(task, encoded), self.context_tokens - len(encoded.ids))
        ids: tuple[int, ...] = ()
        if draft is not None:
            answered = self.encoding.encode(task, draft)
            start, stop = answered.outputs[-1]
            ids = answered.ids[start : stop - 1][: limit - 1]
        return _Prompt(task, encoded if scored else replace(encoded, outputs=()), limit, ids)

    def _generate(
        self, prompts: Sequence[_Prompt], n_shared: int, adapters: RowAdapters | None = None
    ) -> list[Generation]:
        """Answer one batch, whose first `n_shared` tokens are the same in every prompt and read once."""
        alive = [] if adapters is None else list(adapters.slots)

        def keep(rows: Sequence[int]) -> None:
            nonlocal alive
            if adapters is not None:
                alive = [alive[row] for row in rows]
                adapters.use(alive)

        keep(range(len(alive)) if n_shared == 0 else [0])  # what is shared is one row, and of one slot
        # what the scores are of
        read = [
            replace(each.encoded, ids=each.encoded.ids[:n_shared] if n_shared else (*each.encoded.ids, *each.draft))
            for each in prompts
        ]
        places = places_before_outputs(read, max(len(row.ids) for row in read))
        decoded, logits = decode(
            self.module,
            [each.encoded.ids[n_shared:] for each in prompts],
            max_new_tokens=[each.limit for each in prompts],
            end_ids=self.encoding.end_ids,
            pad_id=self.encoding.pad_id,
            positions=self.encoding.positions,
            constraint=self.encoding.constraint([each.task for each in prompts], self.device),
            prefix=prompts[0].encoded.ids[:n_shared],
            kept_logits=places,
            drafts=[each.draft for each in prompts],
            on_keep=keep if n_shared == 0 else lambda rows: None,
            on_read=self._remembered(prompts, [0] * len(prompts) if adapters is None else adapters.slots),
        )
        ids, _ = left_padded([row.ids for row in read], self.encoding.pad_id, self.device)
        shown = scores_of_outputs(read, ids, places, logits)
        return [
            self._generation(prompt, row, scores) for prompt, row, scores in zip(prompts, decoded, shown, strict=True)
        ]

    def _generation(self, prompt: _Prompt, row: Decoded, scores: tuple[OutputScore, ...] = ()) -> Generation:
        return Generation(
            value=self.encoding.decode(prompt.task, row.ids) if row.ended else None,
            token_log_probabilities=row.log_probabilities,
            prompt_tokens=len(prompt.encoded.ids),
            demonstrations=scores,
            token_entropies=row.entropies,
            token_margins=row.margins,
        )

    def _search(self, prompts: Sequence[_Prompt], n_shared: int, cut_off: float) -> list[Search]:
        searched = search(
            self.module,
            [each.encoded.ids[n_shared:] for each in prompts],
            cut_off=cut_off,
            max_new_tokens=[each.limit for each in prompts],
            end_ids=self.encoding.end_ids,
            pad_id=self.encoding.pad_id,
            positions=self.encoding.positions,
            constraint=self.encoding.constraint([each.task for each in prompts], self.device),
            prefix=prompts[0].encoded.ids[:n_shared],
            on_read=self._remembered(prompts, [0] * len(prompts)),
        )
        return [
            Search(
                greedy=self._generation(prompt, row.greedy),
                found=self._found(prompt.task, row.leaves),
                tokens=len(prompt.encoded.ids) + row.n_read + 1,  # the last token written is never read
            )
            for prompt, row in zip(prompts, searched, strict=True)
        ]

    def _found(self, task: Task, leaves: Sequence[Leaf]) -> tuple[Found, ...]:
        """Return the leaves' values: some of them may be written, or ended, in several ways."""
        probabilities: dict[Value, float] = {}
        for leaf in leaves:
            value = self.encoding.decode(task, leaf.ids)
            if value is not None:
                probabilities[value] = probabilities.get(value, 0.0) + math.exp(leaf.log_probability)
        found = [Found(value, math.log(probability)) for value, probability in probabilities.items()]
        return tuple(sorted(found, key=lambda each: -each.log_probability))

    def _batches_that_share(
        self, prompts: Sequence[_Prompt], n_branches: int = 1, slots: Sequence[int] = ()
    ) -> Iterator[tuple[list[int], int]]:
        """Yield batches of indices, each with the number of tokens that its prompts have in common and are read once:
        those before the query where several prompts of one slot share them, else none. Nothing is shared where a layer
        keeps only a window, in which the padding behind it would take room.
        """
        slots = slots or [0] * len(prompts)
        sharing: dict[tuple[int, tuple[int, ...]], list[int]] = {}
        for i, each in enumerate(prompts if self._can_forget else ()):
            sharing.setdefault((slots[i], each.encoded.ids[: each.encoded.query_start]), []).append(i)
        groups = [(group, len(shared)) for (_, shared), group in sharing.items() if len(group) > 1]
        together = {i for group, _ in groups for i in group}
        alone = [i for i in range(len(prompts)) if i not in together]
        for group, n_shared in [*groups, (alone, 0)]:
            for places in self._batches([prompts[i].whole for i in group], n_branches):
                yield sorted((group[place] for place in places), key=lambda i: slots[i]), n_shared

    def _batches(self, rows: Sequence[Encoded], n_branches: int = 1) -> Iterator[list[int]]:
        """Yield indices in batches of like length that stay under the device's limits of tokens and of logits.

        Args:
            n_branches: how many rows each may become.
        """
        most_tokens, most_logits = self._limit(_BATCH_TOKENS), self._limit(_BATCH_LOGITS)
        vocabulary = int(self.module.config.vocab_size)
        lengths = [len(row.ids) for row in rows]
        batch: list[int] = []
        n_scored = 0  # places with logits: at most those of all rows together, and no more than the width
        for i in sorted(range(len(rows)), key=lambda i: (-lengths[i], i)):  # the longest first: it sets the width
            n_own = sum(stop - start for start, stop in rows[i].outputs)
            width = lengths[batch[0]] if batch else lengths[i]
            n_logits = (len(batch) + 1) * max(min(width, n_scored + n_own), n_branches) * vocabulary
            n_tokens = width * (len(batch) + 1) * n_branches
            if batch and (n_tokens > most_tokens or n_logits > most_logits):
                yield batch
                batch, n_scored = [], 0
            batch.append(i)
            n_scored += n_own
        if batch:
            yield batch

    def _limit(self, by_device: Mapping[str, int]) -> int:
        return by_device.get(self.device.type, by_device["cpu"])


@dataclass(frozen=True, slots=True)
class _Prompt:
    """A task as it is put to the model."""

    task: Task
    encoded: Encoded  # its outputs are those to be scored
    limit: int  # tokens that the answer may have
    draft: tuple[int, ...]  # what it may be, without the end

    @property
    def whole(self) -> Encoded:
        """All that is read in the first pass, and what of it logits are needed for."""
        n = len(self.encoded.ids)
        outputs = (*self.encoded.outputs, (n, n + len(self.draft)))
        return replace(self.encoded, ids=(*self.encoded.ids, *self.draft), outputs=outputs)


@contextlib.contextmanager
def typed_out_of_memory() -> Iterator[None]:
    """Turn what torch says of memory that ran out into an error a caller can tell from others."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "alloc" not in str(error).lower():
            raise
        raise OutOfMemory(
            "the device's memory does not hold a pass of the model; give a smaller task or model"
        ) from error


def _is_path(source: str) -> bool:
    """Tell a folder from a hub id, which is a name or an owner and a name."""
    return Path(source).is_absolute() or source.startswith((".", "~")) or source.count("/") > 1


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with contextlib.suppress(RuntimeError):
        device = torch.device(name)
        if device.type != "cuda" or torch.cuda.is_available():
            return device
    raise ModelUnavailable(f"no device {name!r} here", remedy="Use 'auto', 'cpu' or, with a GPU, 'cuda'.")


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name not in _DTYPES:
        raise ModelUnavailable(f"no dtype {name!r}", remedy=f"Use 'auto' or one of {', '.join((*_DTYPES, FOUR_BIT))}.")
    return _DTYPES[name]


def _four_bit_arguments(device: torch.device) -> dict[str, Any]:
    """Return what loads weights in 4 bit, computed with in bfloat16.

    Source: Dettmers et al. 2023 (QLoRA, arXiv 2305.14314), sec. 3 (NF4, double quantisation).
    """
    lacking = [] if device.type == "cuda" else ["a CUDA device"]
    if importlib.util.find_spec("bitsandbytes") is None:
        lacking.append("bitsandbytes")
    if lacking:
        raise ModelUnavailable(
            f"weights in 4 bit need {' and '.join(lacking)}",
            remedy="Install ttt-router[qlora] on a machine with a CUDA GPU, or load with dtype 'auto'.",
        )
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": config, "device_map": {"": device}}


def fingerprints_of(source: str) -> frozenset[str]:
    """Return the fingerprints that a model's folder or hub id has, one for each precision and form of grids; loads no
    weights.
    """
    config = AutoConfig.from_pretrained(source)
    precisions = [str(dtype) for dtype in (torch.float32, torch.bfloat16, torch.float16)]
    written = product((*precisions, FOUR_BIT), GRID_FORMS)
    return frozenset(_fingerprint(source, config, precision, form) for precision, form in written)


def _fingerprint(source: str, config: Any, precision: str, grid_form: GridForm) -> str:
    """Return a SHA-256 over config, precision, form of grids, tokenizer and weights: files up to 64 MiB whole, of
    larger ones the header and two samples of every tensor: a change that spares 8 KiB of each tensor would not be
    noticed.
    """
    digest = hashlib.sha256()
    described = {
        key: value
        for key, value in config.to_dict().items()
        if not key.startswith("_") and key != "transformers_version"
    }
    form = [] if grid_form == "spaced" else [grid_form]  # what it was before it could be chosen is not said
    digest.update(json.dumps([described, precision, *form], sort_keys=True, default=str).encode())
    folder = Path(source)
    if not folder.is_dir():  # a hub id: the commit names the weights
        digest.update(f"{source}@{getattr(config, '_commit_hash', None)}".encode())
        return digest.hexdigest()
    for path in sorted((*folder.glob("*token*.json"), *folder.glob("*.jinja"))):  # another way to write tasks
        digest.update(path.name.encode() + path.read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(f"{path.name}:{path.stat().st_size}".encode())
        with path.open("rb") as file:
            if path.stat().st_size <= _HASHED_WHOLE_BYTES:
                digest.update(file.read())
                continue
            n_header = int.from_bytes(file.read(8), "little")  # safetensors: header's length, header, tensors
            header = file.read(n_header)
            digest.update(header)
            for name, tensor in sorted(json.loads(header).items()):
                if name != "__metadata__":
                    start, stop = tensor["data_offsets"]
                    for place in (start, (start + stop) // 2):
                        file.seek(8 + n_header + place)
                        digest.update(file.read(min(_SAMPLE_BYTES, stop - place)))
    return digest.hexdigest()
