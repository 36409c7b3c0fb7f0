"""Where a layer keeps its queries, keys or values, by name."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class QKSlot:
    """Where one layer keeps its query (or key, or value) output channels. Names, not copies.

    `rows` indexes dim 0 of `weight` (and of `bias`) in (head, channel) order, so separate, fused and
    interleaved-fused projections all read alike.
    """

    weight: str  # state-dict key of the (possibly fused) projection
    bias: str | None
    rows: Tensor  # int64, (heads * head_dim,); of values: (n_kv_heads * value_dim,)
    norm_gain: str | None = None  # QK-norm before RoPE: this key takes the scale, W would be normalised away
    gain_offset: float = 0.0  # 1.0 where the norm multiplies by (1 + w)
    shared: bool = False  # one key for all heads: `rows` are the rotated channels of it, (rotary_dim,)

    def gain_of_rows(self, per_head: Tensor) -> Tensor:
        """Gains (heads, head_dim) as one number for each of `rows`."""
        return per_head[0, : len(self.rows)] if self.shared else per_head.flatten()
