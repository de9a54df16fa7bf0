"""What adaptations of several tasks have in common: which rows of a batch are for which slot, the reading and filling
of a slot, and a learned vector a slot. Every buffer has a row a slot.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch

from icl_engine.transformers_model import TransformersModel
from ttt_engine.errors import AdapterRefused


@dataclass(frozen=True, slots=True)
class Rows:
    """Which slots the rows of a batch are for: those of one slot stand together, slots in rising order."""

    slots: torch.Tensor  # (groups,) the slot of each group
    index: torch.Tensor | None  # (groups, most rows) rows of each group, filled up with its last; None: equal groups
    places: torch.Tensor | None  # (rows,) where each row stands in the flattened index

    @classmethod
    def of(cls, slots: Sequence[int], device: torch.device) -> Rows:
        """Take the slot of each row; those of a single one stand for a batch of any size."""
        groups = [(slot, len(list(rows))) for slot, rows in groupby(slots)]
        if [slot for slot, _ in groups] != sorted({*slots}):
            raise ValueError(f"the rows of a slot must stand together, in rising order; got {list(slots)}")
        most = max(n for _, n in groups)
        chosen = torch.tensor([slot for slot, _ in groups], device=device)
        if all(n == most for _, n in groups):
            return cls(chosen, None, None)
        index, places, first = [], [], 0
        for i, (_, n) in enumerate(groups):
            index.append([first + min(place, n - 1) for place in range(most)])
            places += [i * most + place for place in range(n)]
            first += n
        return cls(chosen, torch.tensor(index, device=device), torch.tensor(places, device=device))

    def chosen(self, buffer: torch.Tensor) -> torch.Tensor:
        """Return the buffer's rows of the groups, (groups, ...)."""
        return buffer if len(self.slots) == len(buffer) else buffer[self.slots]

    def grouped(self, x: torch.Tensor) -> torch.Tensor:
        """Bring (rows, ..., n) into the form (groups, tokens, n), where a shorter group is filled up."""
        rows = x if self.index is None else x[self.index.flatten()]
        return rows.reshape(len(self.slots), -1, x.shape[-1])

    def ungrouped(self, x: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """Bring (groups, tokens, n) back into the form (rows, ..., n) of a batch."""
        return x.view(shape) if self.places is None else x.view(-1, *shape[1:])[self.places]


def read(own: Mapping[str, torch.Tensor], slot: int) -> dict[str, torch.Tensor]:
    """Return copies of a slot's tensors."""
    return {name: tensor[slot].detach().cpu().clone() for name, tensor in own.items()}


def fill(own: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor], slot: int) -> None:
    """Take given tensors into a slot: all, or, where one does not fit, none.

    Raises:
        AdapterRefused: names, shapes or types are not exactly the buffer's, or a value is not finite. PEFT itself would
            load half an adapter without complaint.
    """
    if own.keys() != tensors.keys():
        odd = sorted(own.keys() ^ tensors.keys())[0]
        raise AdapterRefused(f"tensor names differ from this model's, first at {odd!r}. Train the adapter anew.")
    for name, tensor in own.items():
        given = tensors[name]
        finite = bool(torch.isfinite(given).all())
        if given.shape != tensor.shape[1:] or given.dtype != tensor.dtype or not finite:
            raise AdapterRefused(
                f"{name}: got {tuple(given.shape)} {given.dtype}, finite: {finite}; "
                f"wanted {tuple(tensor.shape[1:])} {tensor.dtype}. Train the adapter anew."
            )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor[slot] = tensors[name].to(tensor.device)


class TaskToken:
    """One learned vector a slot, added to the embedding of every token of the slot's rows.

    Source: McGovern, mdlARC (a learned embedding per task, added to every token); Hu et al. 2025, VARC (a task token).
    """

    def __init__(self, model: TransformersModel, vectors: torch.Tensor) -> None:
        self.vectors = torch.nn.Parameter(vectors, requires_grad=False)  # (slots, width)
        self._embedding = model.module.get_input_embeddings()

    @staticmethod
    def width(model: TransformersModel) -> int:
        """Return how long a vector is: as a token's embedding."""
        return int(model.module.get_input_embeddings().embedding_dim)

    @contextlib.contextmanager
    def added(self, rows: Callable[[], Rows]) -> Iterator[None]:
        """Add the vectors for the time of a with block; `rows` is asked at every pass."""

        def add(module: Any, given: Any, output: torch.Tensor) -> torch.Tensor:
            own = rows()
            summed = own.grouped(output).to(self.vectors.dtype) + own.chosen(self.vectors)[:, None]
            return own.ungrouped(summed.to(output.dtype), output.shape)

        handle = self._embedding.register_forward_hook(add)
        try:
            yield
        finally:
            handle.remove()
