"""Causal attention of new queries over a growing cache, in constant extra memory.

transformers calls `stream_attention` (registered as "qroar_stream") with q and k after RoPE; it
hands them to the active stream's layer. Query rows are taken in blocks whose mask has at most
MASK_ENTRIES entries, so the extra memory does not grow with the context.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from qroar_core.maths.softmax_rule import SoftmaxRule

if TYPE_CHECKING:  # a family may need this module
    from qroar_core.models.loaded import LoadedModel

NAME = "qroar_stream"
MASK_ENTRIES = 1 << 20  # query rows x keys per block


class Attends(Protocol):
    """What the active stream offers to the attention function."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float, rule: SoftmaxRule) -> Tensor:
        """Attention output (B, n_heads, t, head_dim) for the chunk's q, k, v."""


_ACTIVE: ContextVar[tuple[Attends, Tensor | None] | None] = ContextVar("qroar_active_stream", default=None)


def stream_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface; causality and sliding window are ours, masks are not used."""
    active = _ACTIVE.get()
    if active is None:
        raise RuntimeError("qroar_stream attention ran outside open_stream")
    stream, arrival = active
    if arrival is not None:
        query, key = query[..., arrival], key[..., arrival]
    factor = scaling if scaling is not None else float(query.shape[-1] ** -0.5)
    rule = SoftmaxRule(kwargs.get("sliding_window"), kwargs.get("softcap"), kwargs.get("s_aux"))
    out = stream.attend(module.layer_idx, query, key, value, factor, rule)
    return out.transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, stream_attention)


@contextmanager
def attention_by(stream: Attends, loaded: LoadedModel) -> Iterator[None]:
    """Route a model's attention through `stream`, rotated channels first; its own implementation returns afterwards."""
    config, arrival = loaded.model.config, loaded.family.arrival(loaded.geometry)
    before = config._attn_implementation_internal
    token = _ACTIVE.set((stream, arrival))
    config._attn_implementation_internal = NAME
    try:
        yield
    finally:
        config._attn_implementation_internal = before
        _ACTIVE.reset(token)


def causal_block(q: Tensor, k: Tensor, v: Tensor, first: int, scaling: float, rule: SoftmaxRule) -> Tensor:
    """Attention of queries at positions first, first + 1, ... over keys 0 .. last query position.

    Args:
        q: (B, n_heads, t, head_dim). k, v: (B, n_kv_heads, first + t, head_dim).
    """
    rows, seen = q.shape[-2], k.shape[-2]
    low = 0 if rule.window is None else max(0, first + 1 - rule.window)
    k, v = k[:, :, low:seen], v[:, :, low:seen]
    grouped = q.shape[1] != k.shape[1]
    if first == 0 and rule.is_plain:
        return scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=grouped)
    query_at = torch.arange(first, first + rows, device=q.device)[:, None]
    distance = query_at - torch.arange(low, seen, device=q.device)[None, :]  # (t, keys)
    if rule.softcap is not None or rule.sinks is not None:
        return _weighted(q, k, v, distance, scaling, rule)
    mask = rule.visible(distance)
    return scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scaling, enable_gqa=grouped)


def _weighted(q: Tensor, k: Tensor, v: Tensor, distance: Tensor, scaling: float, rule: SoftmaxRule) -> Tensor:
    """Attention with soft-capped logits or sinks, which torch's own does not know; one row and KV head at a time."""
    out, group = q.new_empty(*q.shape[:-1], v.shape[-1]), q.shape[1] // k.shape[1]
    wide = torch.promote_types(q.dtype, torch.float32)
    for row in range(q.shape[0]):
        for kv in range(k.shape[1]):
            heads = slice(kv * group, (kv + 1) * group)
            here = rule if rule.sinks is None else replace(rule, sinks=rule.sinks[heads])
            logits = (q[row, heads] @ k[row, kv].mT).to(wide) * scaling  # (group, t, keys)
            out[row, heads] = here.weights(logits[None], distance)[0].to(v.dtype) @ v[row, kv]
    return out
