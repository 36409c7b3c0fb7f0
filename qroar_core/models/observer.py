"""What an observer of a run sees: the attention of one layer on one chunk, and the output of each layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from qroar_core.maths.softmax_rule import SoftmaxRule


@dataclass(frozen=True, slots=True, eq=False)
class AttentionTap:
    """One layer's attention on one chunk of one batch row, after RoPE. Views: copy what you keep."""

    layer: int
    row: int  # batch row
    start: int  # position of the chunk's first token
    q: Tensor  # (n_heads, t, head_dim), unquantized
    k: Tensor  # (n_kv_heads, t, head_dim), unquantized
    v: Tensor
    k_seen: Tensor  # (n_kv_heads, start + t, head_dim), as the cache holds it behind the chunk: quantizers.exact_keys;
    # rounded for q k too, where that is and the cache rounds single tokens
    v_seen: Tensor
    out: Tensor  # (n_heads, t, head_dim)
    cos: Tensor  # (t, rotary_dim // 2), of this layer; 1 where it carries no RoPE
    sin: Tensor
    scaling: float  # on the logits
    rule: SoftmaxRule


class Observer(Protocol):
    """Sees what passes. Both methods are required; do nothing in the one you don't need."""

    def on_attention(self, tap: AttentionTap) -> None:
        """Called once per layer, chunk and batch row."""

    def on_layer(self, layer: int, row: int, start: int, hidden: Tensor) -> None:
        """Called with the output (t, hidden_size) of each decoder layer that has attention."""
