"""Falcon (7B, 40B, 180B): one projection with the rows of q, k and v of a KV head side by side.

Its attention in transformers calls torch directly and repeats K and V for every query head, so while
a stream is open each attention module runs the forward given here, which asks the stream instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.falcon.modeling_falcon import apply_rotary_pos_emb

from qroar_core.errors import UnsupportedModel
from qroar_core.models.attention import stream_attention
from qroar_core.models.families.base import Family
from qroar_core.models.families.slot import QKSlot
from qroar_core.models.geometry import Geometry


@dataclass(frozen=True, slots=True)
class Falcon(Family):
    """`query_key_value`, rows (KV head, its queries | k | v, channel); the older multi-query layout has one KV head."""

    def check(self, config: Any) -> None:
        """Raises UnsupportedModel for ALiBi."""
        if config.alibi:
            raise UnsupportedModel("no RoPE (ALiBi)", where=self.name, do="choose a model with rotary positions")

    def head_dim(self, config: Any) -> int:
        """This family reads no head_dim from its config."""
        return config.hidden_size // config.num_attention_heads

    def n_kv_heads(self, config: Any) -> int:
        """Heads of K and V in the layout the config describes."""
        if config.new_decoder_architecture:
            return config.num_kv_heads
        return 1 if config.multi_query else config.num_attention_heads

    def query(self, layer: int, geometry: Geometry, names: set[str]) -> QKSlot:
        """All but the last two blocks of every KV head."""
        return self._slot(layer, "query_key_value", _blocks(geometry)[:, :-2].flatten(), geometry, names)

    def key(self, layer: int, geometry: Geometry, names: set[str]) -> QKSlot:
        """The last block but one of every KV head."""
        return self._slot(layer, "query_key_value", _blocks(geometry)[:, -2].flatten(), geometry, names)

    def value(self, layer: int, geometry: Geometry, names: set[str]) -> QKSlot:
        """The last block of every KV head."""
        return self._slot(layer, "query_key_value", _blocks(geometry)[:, -1].flatten(), geometry, names)

    @contextmanager
    def intercept_attention(self, model: nn.Module) -> Iterator[None]:
        """Every attention module asks the stream; their own forwards return afterwards."""
        geometry = self.geometry(model.config, 0)
        modules: list[Any] = [model.get_submodule(self._stem(i)) for i in range(geometry.n_layers)]
        before = [vars(module).get("forward") for module in modules]
        try:
            for module in modules:
                module.forward = _streamed(module, geometry)
            yield
        finally:
            for module, own in zip(modules, before):
                del module.forward
                if own is not None:
                    module.forward = own


def _blocks(geometry: Geometry) -> Tensor:
    """Row numbers (n_kv_heads, queries + 2, head_dim)."""
    shape = geometry.n_kv_heads, geometry.queries_per_kv + 2, geometry.head_dim
    return torch.arange(shape[0] * shape[1] * shape[2]).view(shape)


def _streamed(module: Any, geometry: Geometry) -> Callable[..., tuple[Tensor, None]]:
    """The module's forward with the attention handed to the stream."""

    def forward(hidden_states: Tensor, *, position_embeddings: tuple[Tensor, Tensor], **_: Any) -> tuple[Tensor, None]:
        fused = module.query_key_value(hidden_states)  # (B, t, rows)
        batch, t, _rows = fused.shape
        by_kv = fused.view(batch, t, geometry.n_kv_heads, geometry.queries_per_kv + 2, geometry.head_dim)
        q = by_kv[:, :, :, :-2].flatten(2, 3).transpose(1, 2)  # (B, n_heads, t, head_dim)
        k, v = (by_kv[:, :, :, i].transpose(1, 2) for i in (-2, -1))  # (B, n_kv_heads, t, head_dim)
        q, k = apply_rotary_pos_emb(q, k, *position_embeddings)
        out, _none = stream_attention(module, q, k, v, None)
        return module.dense(out.flatten(2)), None  # (B, t, hidden)

    return forward


FALCON = Falcon(
    "falcon",
    ("FalconForCausalLM",),
    layers_at="transformer.h",
    attention="self_attention",
    output="dense",
    key_bias="bias",
    source="transformers/models/falcon/modeling_falcon.py",
)
