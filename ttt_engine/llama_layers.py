"""The layers of a Llama in a pass of training in bfloat16 on a CPU, written out.

For the embedded model and every other Llama of plain linear layers. It computes what transformers' modules do in less
time: layers that read the same are one product with their LoRAs, weights are cast once and states not twice, gradients
are written by hand, and the last layer asks for learned places alone. Scores and rotary positions are in bfloat16 as
well, which rounds 1.1 to 1.4 times as far as autocast does. In full precision nothing was gained by it: there, and for
other architectures, transformers computes.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from transformers.modeling_outputs import BaseModelOutputWithPast

from icl_engine.blockwise_attention import Block, attend, causal_blocks
from icl_engine.inference_settings import Precision
from icl_engine.plain_llama import LlamaLayer, is_plain_llama
from icl_engine.rotary import Turn
from icl_engine.transformers_model import TransformersModel
from ttt_engine.attention import MOST_KEPT, gradients_of, n_kept
from ttt_engine.last_layer import ChosenPlaces
from ttt_engine.lora import LoraStack

_MOST_STATES = 2**26  # numbers that are kept of rows that come again, 256 MiB
_QUERIES = 192  # in a block of attention: of 64 to 256 about the quickest at 110 to 900 tokens


Recurring = tuple[int, tuple[int, ...]]  # the slot of a row, and its tokens


class LlamaLayers:
    """Computes the layers of a model that a stack of LoRAs is trained on. Hold the model's lock.

    The weights that are not trained are copied in bfloat16 with the first pass.

    Args:
        model: a Llama as `of` takes it.
        stack: not in training yet, as its hooks would be somebody's.
        dtype: of the products.
    """

    @classmethod
    def of(cls, model: TransformersModel, stack: object, precision: Precision) -> LlamaLayers | None:
        """Return the layers of this model, or None where transformers has to compute them: in another precision or
        place, of another architecture or a Llama that somebody has changed, with dropout or where all weights are
        trained.
        """
        if precision != "bf16" or not isinstance(stack, LoraStack) or stack.settings.dropout:
            return None
        return cls(model, stack) if is_plain_llama(model.module) else None

    def __init__(self, model: TransformersModel, stack: LoraStack, dtype: torch.dtype = torch.bfloat16) -> None:
        self._base, self._stack, self._dtype = model.module.model, stack, dtype
        config = model.module.config
        self._n_heads, self._n_shared = config.num_attention_heads, config.num_key_value_heads
        self._n_layers = int(config.num_hidden_layers)
        self._kept: dict[int, dict[tuple[int, ...], torch.Tensor]] = {}  # (tokens, hidden), by slot and tokens

    @functools.cached_property
    def _layers(self) -> list[LlamaLayer[_Linears]]:
        layers = self._base.layers[: self._n_layers]
        made = functools.partial(_Linears.of, self._stack, self._dtype)
        return [LlamaLayer.of(layer, made, is_last=layer is layers[-1]) for layer in layers]

    @functools.cached_property
    def _n_frozen(self) -> int:
        """How many layers, from the first on, nothing trained has a part in: what they say of a row stays the same."""
        if self._stack.settings.task_token:
            return 0
        adapted = (i for i, layer in enumerate(self._layers) if any(each.loras for each in layer.products))
        return min(next(adapted, self._n_layers), self._n_layers - 1)

    def take(self, n_rows: int, n_tokens: int) -> bool:
        """Say whether a batch can be computed here: as many rows of each slot, and no more probabilities than are kept
        for gradients elsewhere (the last layer's are counted as another's).
        """
        has_equal_groups = self._stack.rows.index is None
        return has_equal_groups and n_rows * self._n_heads * n_kept(n_tokens, _QUERIES) <= MOST_KEPT

    @contextlib.contextmanager
    def at(self, wanted: torch.Tensor, recurring: Sequence[Recurring | None] = ()) -> Iterator[torch.Tensor]:
        """Compute the layers here for the time of a with block, the last one for some places alone; see
        `last_layer_at`.

        For rows that are padded on the right, if at all: a mask is not looked at. The head is given states in the type
        of products, as it is under autocast.

        Args:
            recurring: of each row that may come again, its slot and its tokens, on which its positions hang alone: what
                the layers below all that is trained say of it is kept until `forget`; None: of this row it is not.
        """
        places = ChosenPlaces.of(wanted, torch.device("cpu"))

        def forward(input_ids: torch.Tensor, position_ids: torch.Tensor, **given: object) -> BaseModelOutputWithPast:
            with torch.autocast("cpu", enabled=False):
                states, n_below = self._below(input_ids, position_ids, recurring)
                return BaseModelOutputWithPast(last_hidden_state=self._computed(states, position_ids, places, n_below))

        self._base.forward = forward
        try:
            yield places.kept
        finally:
            del self._base.forward

    def forget(self, slot: int) -> None:
        """Keep nothing any longer of the rows of a slot."""
        self._kept.pop(slot, None)

    @property
    def n_kept(self) -> int:
        """Numbers that are kept of rows that may come again."""
        return sum(states.numel() for of_slot in self._kept.values() for states in of_slot.values())

    def _below(
        self, ids: torch.Tensor, position_ids: torch.Tensor, recurring: Sequence[Recurring | None]
    ) -> tuple[torch.Tensor, int]:
        """Return states, (rows, tokens, hidden), in fp32, and how many layers they have been through: those that
        nothing trained has a part in where rows may come again, else none.
        """
        if not self._n_frozen or not any(recurring):
            return self._base.embed_tokens(ids), 0
        found = torch.zeros(*ids.shape, self._base.embed_tokens.embedding_dim)
        new = []
        for i, row in enumerate(recurring):
            states = None if row is None else self._kept.get(row[0], {}).get(row[1])
            if states is None:
                new.append(i)
            else:
                found[i, : len(states)] = states
        if new:
            read = self._base.embed_tokens(ids[new])
            found[new] = self._through(self._layers[: self._n_frozen], read, position_ids[..., new, :])
        for i in new if self.n_kept < _MOST_STATES else ():
            if (row := recurring[i]) is not None:
                self._kept.setdefault(row[0], {})[row[1]] = found[i, : len(row[1])].clone()
        return found, self._n_frozen

    def _through(
        self,
        layers: Sequence[LlamaLayer[_Linears]],
        states: torch.Tensor,
        position_ids: torch.Tensor,
        places: ChosenPlaces | None = None,
    ) -> torch.Tensor:
        """Return what comes out of layers, of all tokens, or of these places where the last one is among them."""
        n_tokens = states.shape[1]
        cos, sin = self._base.rotary_emb(states, position_ids)
        turn = Turn.of(cos.to(self._dtype), sin.to(self._dtype), len(states))
        blocks = causal_blocks(n_tokens, self._dtype, _QUERIES)
        for layer in layers:
            read = self._normed(states, layer.norm)
            projected, query, asking = self._product(read, layer.attention), None, turn
            if (
                places is not None and layer.query is not None
            ):  # of the last layer, whose keys and values alone are of all places
                states, asking = places.of_rows(states), turn.at(places.of_rows)
                query = self._product(places.of_rows(read), layer.query)
                blocks = _blocks_at(places.columns, n_tokens, self._dtype)
            heads = _Heads(self._n_heads, self._n_shared, asking, turn, blocks)
            states = states + self._product(_applied(_Attention, query, projected, heads), layer.output)
            read = self._normed(states, layer.mlp_norm)
            let_through = _applied(_Swiglu, self._product(read, layer.gate_up))
            states = states + self._product(let_through, layer.down)
        return states

    def _computed(
        self, states: torch.Tensor, position_ids: torch.Tensor, places: ChosenPlaces, n_below: int
    ) -> torch.Tensor:
        """Return what the last layer says at these places, normed, (rows, places, hidden).

        Args:
            n_below: layers that the states have been through.
        """
        states = self._through(self._layers[n_below:], states, position_ids, places)
        return self._normed(states, self._base.norm)

    def _normed(self, states: torch.Tensor, norm: Any) -> torch.Tensor:
        return _applied(_RmsNorm, states, norm, self._dtype)

    def _product(self, x: torch.Tensor, linears: _Linears) -> torch.Tensor:
        """Return what linear layers and their LoRAs make of x, side by side; (rows, tokens, outputs)."""
        rows = self._stack.rows
        matrices = [rows.chosen(matrix) for lora in linears.loras for matrix in (lora.a, lora.b)]
        return _applied(_Products, x, linears, self._stack.scale, *matrices)


def _applied(function: type[torch.autograd.Function], *given: object) -> torch.Tensor:
    found: torch.Tensor = function.apply(*given)
    return found


@dataclass(frozen=True, slots=True)
class _Lora:
    """The matrices of one of several layers that are one product."""

    outputs: slice  # of the product
    ranks: slice  # of the ranks of all
    a: torch.nn.Parameter  # (slots, rank, inputs)
    b: torch.nn.Parameter  # (slots, outputs, rank)


@dataclass(frozen=True, slots=True)
class _Linears:
    """Linear layers that read the same."""

    weight: torch.Tensor  # (outputs, inputs), in the type of products
    loras: tuple[_Lora, ...]  # of those that are adapted

    @classmethod
    def of(cls, stack: LoraStack, dtype: torch.dtype, *layers: torch.nn.Linear) -> _Linears:
        """Put them side by side, with the LoRAs that the stack has of them."""
        loras: list[_Lora] = []
        start = 0
        for layer in layers:
            outputs = slice(start, start + layer.out_features)
            if (matrices := stack.matrices_of(layer)) is not None:
                rank, n_before = matrices[0].shape[1], len(loras)
                loras.append(_Lora(outputs, slice(rank * n_before, rank * (n_before + 1)), *matrices))
            start = outputs.stop
        return cls(torch.cat([layer.weight.detach().to(dtype) for layer in layers]), tuple(loras))


class _RmsNorm(torch.autograd.Function):
    """States in fp32, normed, in the type of products. Source: Zhang and Sennrich 2019 (arXiv 1910.07467), eq. 4."""

    @staticmethod
    def forward(context: Any, states: torch.Tensor, norm: Any, dtype: torch.dtype) -> torch.Tensor:
        squares = torch.linalg.vector_norm(states, dim=-1, keepdim=True).square_()
        inverse = squares.div_(states.shape[-1]).add_(norm.variance_epsilon).rsqrt_()
        normed = states * inverse
        weight = norm.weight.detach()
        if context.needs_input_grad[0]:
            context.save_for_backward(normed.to(dtype), inverse, weight)
        found: torch.Tensor = (normed * weight).to(dtype)
        return found

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        normed, inverse, weight = context.saved_tensors
        of_normed = gradient * weight  # fp32
        along = (of_normed * normed).mean(-1, keepdim=True)
        return of_normed.addcmul_(normed, along, value=-1).mul_(inverse), None, None


class _Products(torch.autograd.Function):
    """Linear layers that read the same as one product, with their LoRAs: those of a slot for the rows of that slot."""

    @staticmethod
    def forward(
        context: Any, x: torch.Tensor, linears: _Linears, scale: float, *matrices: torch.Tensor
    ) -> torch.Tensor:
        found = (x.flatten(0, 1) @ linears.weight.t()).view(*x.shape[:2], -1)
        context.linears, context.scale = linears, scale
        if linears.loras:
            a = torch.cat(matrices[::2], dim=1).to(x.dtype)  # (groups, ranks, inputs)
            b = a.new_zeros(len(a), found.shape[2], a.shape[1])  # (groups, outputs, ranks), zero but for each its own
            for lora, own in zip(linears.loras, matrices[1::2], strict=True):
                torch.mul(own, scale, out=b[:, lora.outputs, lora.ranks])
            read = x.reshape(len(a), -1, x.shape[2])  # the rows of a slot, one after the other
            inner = read @ a.mT
            found.view(len(a), -1, found.shape[2]).baddbmm_(inner, b.mT)
            context.save_for_backward(read, a, b, inner)
        return found

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        linears: _Linears = context.linears
        wanted = gradient.flatten(0, 1)
        of_x = wanted @ linears.weight if context.needs_input_grad[0] else None
        of_matrices: list[torch.Tensor | None] = []
        if linears.loras:
            read, a, b, inner = context.saved_tensors
            wanted = wanted.view(len(a), -1, gradient.shape[2])
            of_inner = wanted @ b  # (groups, tokens, ranks)
            if of_x is not None:
                of_x.view(read.shape).baddbmm_(of_inner, a)
            of_a = of_inner.mT @ read if context.needs_input_grad[3] else None  # not where A is frozen
            of_b = (wanted.mT @ inner) * context.scale
            for lora in linears.loras:
                of_matrices.append(None if of_a is None else of_a[:, lora.ranks].float())
                of_matrices.append(of_b[:, lora.outputs, lora.ranks].float())
        return None if of_x is None else of_x.view(*gradient.shape[:2], -1), None, None, *of_matrices


class _Swiglu(torch.autograd.Function):
    """What the gate of an MLP lets through; both are given side by side. Source: Shazeer 2020 (arXiv 2002.05202)."""

    @staticmethod
    def forward(context: Any, gate_up: torch.Tensor) -> torch.Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        opened = torch.nn.functional.silu(gate)
        context.save_for_backward(gate_up, opened)
        return opened * up

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
        gate_up, opened = context.saved_tensors
        gate, up = gate_up.chunk(2, dim=-1)
        of_both = torch.empty_like(gate_up)
        of_gate, of_up = of_both.chunk(2, dim=-1)
        torch.mul(gradient, opened, out=of_up)
        of_gate.copy_(torch.ops.aten.silu_backward(gradient * up, gate))
        return of_both


@dataclass(frozen=True, slots=True)
class _Heads:
    """What attention is, apart from the numbers it is of."""

    n: int
    n_shared: int  # of keys and values
    asking: Turn  # of the queries
    asked: Turn  # of the keys
    blocks: Sequence[Block]


class _Attention(torch.autograd.Function):
    """Attention of what linear layers made of the states: queries, keys and values side by side, (rows, tokens, heads
    times head), or, where there are queries apart, (rows, queries, ...), keys and values.
    """

    @staticmethod
    def forward(context: Any, query: torch.Tensor | None, projected: torch.Tensor, heads: _Heads) -> torch.Tensor:
        asking, asked, given = _heads_of(query, projected, heads)
        states = [_by_head(each) for each in (asking, asked, given)]
        heads.asking.turn(asking, states[0].transpose(1, 2))
        heads.asked.turn(asked, states[1].transpose(1, 2))
        states[2].transpose(1, 2).copy_(given)
        states[0] *= asking.shape[-1] ** -0.5
        if heads.n > heads.n_shared:
            states[1:] = [each.repeat_interleave(heads.n // heads.n_shared, dim=1) for each in states[1:]]
        kept: list[torch.Tensor] | None = [] if any(context.needs_input_grad) else None
        attended = attend(states[0], states[1], states[2], heads.blocks, kept=kept)
        if kept is not None:
            context.save_for_backward(*states, *kept)
            context.heads, context.of_query = heads, None if query is None else query.shape
            context.of_projected = projected.shape
        return attended.transpose(1, 2).flatten(2)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        heads: _Heads = context.heads
        asking, asked, given, *kept = context.saved_tensors
        wanted = gradient.unflatten(2, (heads.n, -1)).transpose(1, 2).contiguous()
        found = [*gradients_of(asking, asked, given, wanted, kept, heads.blocks)]
        found[0] *= asking.shape[-1] ** -0.5
        if heads.n > heads.n_shared:
            found[1:] = [each.unflatten(1, (heads.n_shared, -1)).sum(2) for each in found[1:]]
        of_query = None if context.of_query is None else gradient.new_empty(context.of_query)
        of_projected = gradient.new_empty(context.of_projected)
        places = _heads_of(of_query, of_projected, heads)
        of_asking, of_asked, of_given = (each.to(gradient.dtype).transpose(1, 2) for each in found)
        heads.asking.turn(of_asking, places[0], back=True)
        heads.asked.turn(of_asked, places[1], back=True)
        places[2].copy_(of_given)
        return of_query, of_projected, None


def _heads_of(
    query: torch.Tensor | None, projected: torch.Tensor, heads: _Heads
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return views on queries, keys and values, (rows, tokens, heads, head)."""
    n_asking = heads.n if query is None else 0
    by_head = projected.unflatten(2, (n_asking + 2 * heads.n_shared, -1))
    asking, asked, given = by_head.split([n_asking, heads.n_shared, heads.n_shared], dim=2)
    return asking if query is None else query.unflatten(2, (heads.n, -1)), asked, given


def _by_head(x: torch.Tensor) -> torch.Tensor:
    """Return room for x, (rows, tokens, heads, head), as attention reads it: (rows, heads, tokens, head)."""
    rows, tokens, heads, width = x.shape
    return x.new_empty(rows, heads, tokens, width)


def _blocks_at(columns: torch.Tensor, n_tokens: int, dtype: torch.dtype) -> list[Block]:
    """Return the blocks in which queries at these columns of each row, (rows, places), look at all up to theirs."""
    later = torch.arange(n_tokens) > columns[..., None]  # (rows, places, tokens)
    hidden = torch.zeros(later.shape, dtype=dtype).masked_fill_(later, -torch.inf)[:, None]
    blocks = []
    for start in range(0, columns.shape[1], _QUERIES):
        queries = slice(start, min(start + _QUERIES, columns.shape[1]))
        n_keys = int(columns[:, queries].max()) + 1
        blocks.append(Block(queries, n_keys, hidden[:, :, queries, :n_keys]))
    return blocks
