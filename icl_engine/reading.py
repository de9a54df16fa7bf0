"""Rows of tokens that a model has read, left-padded, with their key-value cache: read on, drop rows, take tokens back.

Knows nothing of tasks, nor of how the tokens are chosen.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

# of ids (batch, tokens), left-padded, and their mask; the result is what the model takes as `position_ids`
Positions = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
OnRead = Callable[["Reading", torch.Tensor], None]  # of prompts, and the logits at their ends, (rows, vocabulary)
_ROOM_TOKENS = 64  # after which a row's keys and values are moved to where there is room again


def left_padded(
    prompts: Sequence[Sequence[int]], pad_id: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and attention mask, both (rows, longest prompt)."""
    width = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), width), pad_id, dtype=torch.long)
    mask = torch.zeros(len(prompts), width, dtype=torch.long)
    for i, prompt in enumerate(prompts):
        ids[i, width - len(prompt) :] = torch.tensor(prompt)
        mask[i, width - len(prompt) :] = 1
    return ids.to(device), mask.to(device)


def can_forget(module: Any) -> bool:
    """Say whether a reading of this model can take tokens back: not where a layer keeps only a window of them."""
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=module.config).layers)


@contextlib.contextmanager
def watching(module: Any, n_passes: int) -> Iterator[list[torch.Tensor]]:
    """Collect the last layer's hidden states at the last place of each of the first passes, (rows, 1, hidden) a pass.

    They are what reaches the output head anyway. Of a model that does not name its head, or whose head takes them under
    a name, none are collected.
    """
    seen: list[torch.Tensor] = []

    def see(_: Any, arguments: tuple[Any, ...]) -> None:
        if arguments and len(seen) < n_passes:
            seen.append(arguments[0][:, -1:].detach().float())  # (rows, 0, hidden) of a pass without logits

    head = module.get_output_embeddings()
    if head is None:
        yield seen
        return
    handle = head.register_forward_pre_hook(see)
    try:
        yield seen
    finally:
        handle.remove()


class _RoomyLayer(DynamicLayer):
    """Keys and values with room behind them, so that one token more moves none of those before. With transformers' own
    layer, which copies all of them at every token, answering took 5 % longer with 8 rows and 10 % with 64 (embedded
    model, one core); with one row it is the same.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._stores: list[torch.Tensor] = []  # two, (rows, heads, places, head_dim)
        self._shown: torch.Tensor | None = None  # the keys while they are the beginning of their store

    @classmethod
    def after(cls, other: Any) -> _RoomyLayer:
        """Return a layer that goes on from another's keys and values, which it copies when it does."""
        assert type(other) is _RoomyLayer, "can_forget was not asked"
        layer = cls()
        if other.keys is not None and other.values is not None:
            layer.lazy_initialization(other.keys, other.values)
            layer.keys, layer.values = other.keys, other.values
        return layer

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add the states of further tokens, (rows, heads, tokens, head_dim), and return all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        n_before = self.get_seq_length()
        n = n_before + key_states.shape[2]
        if self._shown is not self.keys or n > self._stores[0].shape[2]:  # rows were chosen, or tokens taken back
            before = self.keys, self.values
            self._stores = [
                states.new_empty(*states.shape[:2], n + _ROOM_TOKENS, states.shape[3])
                for states in (key_states, value_states)
            ]
            for store, old in zip(self._stores, before, strict=True):
                if n_before and old is not None:
                    store[:, :, :n_before] = old
        for store, states in zip(self._stores, (key_states, value_states), strict=True):
            store[:, :, n_before:n] = states
        keys, values = (store[:, :, :n] for store in self._stores)
        self.keys, self.values, self._shown = keys, values, keys
        return keys, values


class _LayerBehind(DynamicLayer):
    """The keys and values of some rows of another layer, of which one may be there several times. They are put together
    when further ones are added, and these are not kept.
    """

    def __init__(self, other: Any, rows: torch.Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        assert type(other) is _RoomyLayer, "can_forget was not asked"
        assert other.keys is not None
        assert other.values is not None
        self.lazy_initialization(other.keys, other.values)
        self.keys, self.values = other.keys, other.values
        self._rows = rows

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return those of the rows with the states of further tokens, (rows, heads, tokens, head_dim)."""
        return self._joined(self.keys, key_states), self._joined(self.values, value_states)

    def _joined(self, before: torch.Tensor | None, states: torch.Tensor) -> torch.Tensor:
        assert before is not None
        n = before.shape[2]
        joined = states.new_empty(*states.shape[:2], n + states.shape[2], states.shape[3])
        joined[:, :, :n] = before.index_select(0, self._rows)
        joined[:, :, n:] = states
        return joined


class Reading:
    """What a model has read of several rows; nothing yet."""

    def __init__(self, module: Any, n_rows: int, *, pad_id: int, positions: Positions) -> None:
        self.module = module
        self.pad_id = pad_id
        self.positions = positions
        self.cache = DynamicCache(config=module.config)
        self.cache.layers = [_RoomyLayer() if type(layer) is DynamicLayer else layer for layer in self.cache.layers]
        self.ids = torch.zeros(n_rows, 0, dtype=torch.long, device=module.device)
        self.mask = torch.zeros_like(self.ids)

    def read(self, ids: torch.Tensor, mask: torch.Tensor, places: Sequence[int] | None = None) -> torch.Tensor:
        """Read more tokens, (rows, tokens), and return the logits at these places of them (default: at all of them)."""
        self.ids = torch.cat((self.ids, ids), dim=1)
        self.mask = torch.cat((self.mask, mask), dim=1)
        logits: torch.Tensor = self.module(
            input_ids=ids,
            attention_mask=self.mask,
            position_ids=self.positions(self.ids, self.mask)[..., -ids.shape[1] :],
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=0 if places is None else torch.tensor(places, dtype=torch.long, device=ids.device),
        ).logits  # (rows, places, vocabulary)
        return logits

    def read_token(self, tokens: Sequence[int]) -> torch.Tensor:
        """Read one more token in each row and return the logits after it, (rows, vocabulary)."""
        column = torch.tensor(tokens, device=self.ids.device)[:, None]
        return self.read(column, torch.ones_like(column))[:, -1]

    def fork(self) -> Reading:
        """Return another reading that goes on from what is read so far, whatever becomes of this one. Only for a model
        of which `can_forget` is true.
        """
        other = Reading(self.module, 0, pad_id=self.pad_id, positions=self.positions)
        other.ids, other.mask = self.ids, self.mask
        other.cache.layers = [_RoomyLayer.after(layer) for layer in self.cache.layers]
        return other

    def read_behind(self, rows: Sequence[int], ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the logits of tokens, (rows, tokens), behind these rows, of which one may be given several times; what
        is read here stays as it is. Only for a model of which `can_forget` is true.
        """
        index = torch.tensor(rows, device=self.ids.device)
        behind = Reading(self.module, 0, pad_id=self.pad_id, positions=self.positions)
        behind.ids, behind.mask = self.ids[index], self.mask[index]
        behind.cache.layers = [_LayerBehind(layer, index) for layer in self.cache.layers]
        return behind.read(ids, mask)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows, in this order; one that is given several times goes on as several."""
        if list(rows) == list(range(len(self.ids))):
            return
        index = torch.tensor(rows, device=self.ids.device)
        self.ids, self.mask = self.ids[index], self.mask[index]
        self.cache.batch_select_indices(index)

    def forget(self, n_tokens: Sequence[int]) -> None:
        """Take the last tokens of each row back, for each row its own number of them.

        What is left is moved to the right, where the next token follows. Keys carry their position with them, so that
        the place in the cache is free.
        """
        if not any(n_tokens):
            return
        n = torch.tensor(n_tokens, device=self.ids.device)[:, None]
        place = torch.arange(min(n_tokens), self.ids.shape[1], device=self.ids.device) - n  # (rows, places that stay)
        padding, place = place < 0, place.clamp_min(0)
        self.ids = self.ids.gather(1, place).masked_fill(padding, self.pad_id)
        self.mask = self.mask.gather(1, place).masked_fill(padding, 0)
        for layer in self.cache.layers:
            assert type(layer) is _RoomyLayer, "can_forget was not asked"
            assert layer.keys is not None
            assert layer.values is not None
            layer.keys, layer.values = (
                states.gather(2, place[:, None, :, None].expand(-1, states.shape[1], -1, states.shape[3]))
                for states in (layer.keys, layer.values)  # (rows, heads, places, head_dim)
            )


def read_prompts(
    module: Any,
    prompts: Sequence[Sequence[int]],
    *,
    pad_id: int,
    positions: Positions,
    prefix: Sequence[int] = (),
    kept_logits: Sequence[int] = (),
    n_last: int = 1,
) -> tuple[Reading, torch.Tensor, torch.Tensor]:
    """Read a batch of prompts, and first, once for all of them, the prefix that stands before each.

    The padding of shorter prompts then stands between the two, masked.

    Args:
        kept_logits: places in the prefix or, where there is none, in the padded prompts.
        n_last: how many places at the end of the prompts.

    Returns:
        The reading, and two times logits: (rows, len(kept_logits), vocabulary) and (rows, n_last, vocabulary).
    """
    ids, mask = left_padded(prompts, pad_id, module.device)
    last_places = range(ids.shape[1] - n_last, ids.shape[1])
    if not prefix:
        reading = Reading(module, len(prompts), pad_id=pad_id, positions=positions)
        logits = reading.read(ids, mask, [*kept_logits, *last_places])
        return reading, logits[:, : len(kept_logits)], logits[:, len(kept_logits) :]
    reading = Reading(module, 1, pad_id=pad_id, positions=positions)
    shared = torch.tensor([prefix], device=ids.device)
    kept = reading.read(shared, torch.ones_like(shared), kept_logits)
    reading.keep([0] * len(prompts))
    return reading, kept.expand(len(prompts), -1, -1), reading.read(ids, mask, last_places)
