"""A Llama whose rotary positions are computed from the tokens: value of the task, column and row (see positions.py).

Everything else is transformers' Llama. Importing this module registers the class with the Auto classes, so
`from_pretrained`, `save_pretrained` and peft work without remote code.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, LlamaModel
from transformers.modeling_outputs import BaseModelOutputWithPast

from icl_engine.embedded.positions import AXES, positions_of

_POSITION_DIMENSIONS = 3  # axes, batch, tokens; ordinary positions have two and are not of use


class GridLlamaConfig(LlamaConfig):
    """Llama's config and, per axis (value, column, row), how many rotary pairs of a head and their base period."""

    model_type = "grid_llama"

    def __init__(
        self,
        axis_pairs: Sequence[int] = (8, 12, 12),
        axis_theta: Sequence[float] = (100.0, 1000.0, 100.0),
        **kwargs: Any,
    ) -> None:
        self.axis_pairs = list(axis_pairs)
        self.axis_theta = list(axis_theta)
        super().__init__(**kwargs)


class GridRotaryEmbedding(torch.nn.Module):
    """Cosines and sines for three-axis positions: each head dimension turns with one axis."""

    def __init__(self, config: GridLlamaConfig) -> None:
        super().__init__()
        head_dim = config.head_dim or config.hidden_size // config.num_attention_heads
        if len(config.axis_pairs) != AXES or 2 * sum(config.axis_pairs) != head_dim:
            raise ValueError(
                f"axis_pairs {config.axis_pairs} must be {AXES} numbers that add up to half of head_dim {head_dim}"
            )
        self._axis_of = [axis for axis, pairs in enumerate(config.axis_pairs) for _ in range(pairs)]
        # not a buffer: from_pretrained leaves non-persistent buffers uninitialised
        self._frequencies = torch.cat(
            [
                theta ** -(torch.arange(pairs, dtype=torch.float32, device="cpu") / pairs)
                for pairs, theta in zip(config.axis_pairs, config.axis_theta, strict=True)
            ]
        )

    @torch.no_grad()
    def forward(self, x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (cos, sin), each (batch, tokens, head_dim), from positions (3, batch, tokens)."""
        if self._frequencies.device != x.device:
            self._frequencies = self._frequencies.to(x.device)
        angle = position_ids[self._axis_of].movedim(0, -1).float() * self._frequencies  # (batch, tokens, head_dim / 2)
        angle = torch.cat((angle, angle), dim=-1)
        return angle.cos().to(x.dtype), angle.sin().to(x.dtype)


class GridLlamaModel(LlamaModel):
    """LlamaModel with positions (3, batch, tokens); computed from `input_ids` where not given and nothing is cached."""

    config_class = GridLlamaConfig

    def __init__(self, config: GridLlamaConfig) -> None:
        super().__init__(config)
        self.rotary_emb: Any = GridRotaryEmbedding(config)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Any = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Run the layers; see LlamaModel. With a filled cache `position_ids` are required: they hang on all tokens
        before.
        """
        cached = past_key_values.get_seq_length() if past_key_values is not None else 0
        if position_ids is None or position_ids.ndim != _POSITION_DIMENSIONS:
            if input_ids is None or cached:
                raise ValueError(
                    "position_ids (3, batch, tokens) are needed where earlier tokens are only in the cache"
                )
            position_ids = positions_of(input_ids)
        if attention_mask is None and input_ids is not None:
            attention_mask = torch.ones(
                input_ids.shape[0], cached + input_ids.shape[1], dtype=torch.bool, device=input_ids.device
            )
        outputs: BaseModelOutputWithPast = super().forward(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            **kwargs,
        )
        return outputs


class GridLlamaForCausalLM(LlamaForCausalLM):
    """The causal language model; `generate` works as for any other, and so does our own decode loop."""

    config_class = GridLlamaConfig

    def __init__(self, config: GridLlamaConfig) -> None:
        super().__init__(config)
        self.model = GridLlamaModel(config)
        self.post_init()  # type: ignore[no-untyped-call]

    def prepare_inputs_for_generation(self: Any, input_ids: Any, *args: Any, **kwargs: Any) -> Any:
        """Add the positions of the tokens that are fed, computed from all tokens so far."""
        inputs = LlamaForCausalLM.prepare_inputs_for_generation(self, input_ids, *args, **kwargs)
        inputs["position_ids"] = positions_of(input_ids)[..., -inputs["input_ids"].shape[1] :]
        return inputs


AutoConfig.register("grid_llama", GridLlamaConfig)
AutoModelForCausalLM.register(GridLlamaConfig, GridLlamaForCausalLM)
