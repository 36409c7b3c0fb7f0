"""Qwen3-Next: three layers of Gated DeltaNet to one of attention, whose heads are gated by a half of q_proj's rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qroar_core.models.families.hybrid import Hybrid
from qroar_core.models.families.slot import QKSlot
from qroar_core.models.geometry import Geometry


@dataclass(frozen=True, slots=True)
class GatedHybrid(Hybrid):
    """`q_proj`, rows (head, q | gate, channel); a QK-norm with gain 1 + w shared by all heads takes the scale."""

    def query(self, layer: int, geometry: Geometry, names: set[str]) -> QKSlot:
        """The first half of every head's rows."""
        rows = torch.arange(2 * geometry.n_heads * geometry.head_dim).view(geometry.n_heads, 2, geometry.head_dim)
        return self._slot(layer, "q_proj", rows[:, 0].flatten(), geometry, names, self.norms and self.norms[0])

    def behind_values(self, config: Any) -> str:
        """The gates."""
        return "gates multiply each channel of the attention output"

    def output_gates(self, geometry: Geometry) -> Callable[[Tensor], Tensor]:
        """The sigmoid of every head's other half."""
        per_head = geometry.n_heads, 2, geometry.head_dim
        return lambda projected: projected.unflatten(-1, per_head)[..., 1, :].sigmoid()


QWEN3_NEXT = GatedHybrid(
    "qwen3_next",
    ("Qwen3NextForCausalLM",),
    norms=("q_norm", "k_norm"),
    gain_offset=1.0,
    gain_shared=True,
    partial=True,
    source="transformers/models/qwen3_next/modeling_qwen3_next.py",
)
