"""Causal attention of new queries over a growing cache, in constant extra memory.

transformers calls `stream_attention` (registered as "qroar_stream") with q and k after RoPE; it
hands them to the active stream's layer. Earlier keys and a chunk's own are attended apart and joined, which
needs no mask, where torch has a kernel for it (`attention_kernels`). Elsewhere, and where a rule bends the softmax,
query rows are taken in blocks whose mask has at most MASK_ENTRIES entries: FlexAttention without torch.compile keeps
all logits, and torch's flash attention takes a window by another operator without a CPU kernel to check it against.
Either way the extra memory does not grow with the context.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from math import isqrt
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PretrainedConfig

from qroar_core.maths.softmax_rule import SoftmaxRule
from qroar_core.models.attention_kernels import joined, kernel_for
from qroar_core.models.geometry import Geometry

NAME = "qroar_stream"
MASK_ENTRIES = 1 << 22  # query rows x query heads of a KV head x keys per block


class Attends(Protocol):
    """What the active stream offers to the attention function."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float, rule: SoftmaxRule) -> Tensor:
        """Attention output (B, n_heads, t, head_dim) for the chunk's q, k, v."""


_ACTIVE: ContextVar[tuple[Attends, Geometry, Tensor | None] | None] = ContextVar("qroar_active_stream", default=None)


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
    stream, geometry, channel_order_in = active
    if channel_order_in is not None:
        query, key = query[..., channel_order_in], key[..., channel_order_in]
    factor = scaling if scaling is not None else float(query.shape[-1] ** -0.5)
    rule = SoftmaxRule(kwargs.get("sliding_window"), kwargs.get("softcap"), kwargs.get("s_aux"))
    out = stream.attend(geometry.attention_layer(module.layer_idx), query, key, value, factor, rule)
    return out.transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, stream_attention)


@contextmanager
def attention_by(
    stream: Attends, config: PretrainedConfig, geometry: Geometry, channel_order_in: Tensor | None
) -> Iterator[None]:
    """Route the attention of the model of `config` through `stream`, rotated channels first (`channel_order_in`).

    Its own implementation returns afterwards.
    """
    before = config._attn_implementation_internal
    token = _ACTIVE.set((stream, geometry, channel_order_in))
    config._attn_implementation_internal = NAME
    try:
        yield
    finally:
        config._attn_implementation_internal = before
        _ACTIVE.reset(token)


def rows_at_once(q: Tensor, k: Tensor, v: Tensor, end: int, rule: SoftmaxRule) -> int:
    """Query rows of a chunk that `causal_block` takes in constant memory, where the last of them sees `end` keys.

    Args:
        k, v: the cache, or tensors laid out as it is.
    """
    if rule.is_plain and kernel_for(q, k, v) is not None:
        return q.shape[-2]
    entries = MASK_ENTRIES // (q.shape[1] // k.shape[1])
    rows = max(1, entries // end)
    if rule.window is None or q.device.type == "cpu":  # there a block's borders show in the last digits, which stay
        return rows
    before = rule.window - 1  # keys that the first row of a block sees beside its own
    return max(rows, (isqrt(before * before + 4 * entries) - before) // 2)  # rows * (before + rows) <= entries


def causal_block(q: Tensor, k: Tensor, v: Tensor, first: int, scaling: float, rule: SoftmaxRule) -> Tensor:
    """Attention of queries at positions first, first + 1, ... over keys 0 .. last query position.

    Args:
        q: (B, n_heads, t, head_dim). k, v: (B, n_kv_heads, first + t, head_dim).
    """
    rows, seen, group = q.shape[-2], k.shape[-2], q.shape[1] // k.shape[1]
    low = 0 if rule.window is None else max(0, first + 1 - rule.window)
    k, v = k[:, :, low:seen], v[:, :, low:seen]
    if first == 0 and rule.is_plain:
        return scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=group > 1)
    if rule.is_plain and (kernel := kernel_for(q, k, v)) is not None:
        return joined(kernel, q, k, v, first, scaling)
    query_at = torch.arange(first, first + rows, device=q.device)[:, None]
    distance = query_at - torch.arange(low, seen, device=q.device)[None, :]  # (t, keys)
    if rule.softcap is not None or rule.sinks is not None:
        return _weighted(q, k, v, distance, scaling, rule)
    mask = rule.visible(distance).repeat(group, 1)  # CUDA has a fused kernel for a mask, but not with grouped queries
    out = scaled_dot_product_attention(_folded(q, k), k, v, attn_mask=mask, scale=scaling)
    return out.reshape(*q.shape[:-1], v.shape[-1])


def block_with_gradient(q: Tensor, k: Tensor, v: Tensor, first: int, scaling: float, rule: SoftmaxRule) -> Tensor:
    """`causal_block`, but never by the two kernels that it joins by their logsumexp, which have no gradient."""
    if not rule.is_plain or first == 0:
        return causal_block(q, k, v, first, scaling, rule)
    seen = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril(first)
    return scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=scaling, enable_gqa=q.shape[1] > k.shape[1])


def _folded(q: Tensor, k: Tensor) -> Tensor:
    """The query heads of a KV head as rows of one head, (B, n_kv_heads, group * t, head_dim): each key is read once."""
    return q.reshape(q.shape[0], k.shape[1], -1, q.shape[-1])


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
