"""GPT-NeoX and Pythia: one projection with bias, head by head the rows of q, k and v; partial rotary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from qroar_core.models.families.base import Family
from qroar_core.models.families.slot import QKSlot
from qroar_core.models.geometry import Geometry


@dataclass(frozen=True, slots=True)
class GptNeoX(Family):
    """`query_key_value`, rows (head, q | k | v, channel)."""

    def head_dim(self, config: Any) -> int:
        """This family reads no head_dim from its config."""
        return config.hidden_size // config.num_attention_heads

    def n_kv_heads(self, config: Any) -> int:
        """Every query head has keys of its own."""
        return config.num_attention_heads

    def query(self, layer: int, geometry: Geometry, names: set[str]) -> QKSlot:
        """The first third of every head's rows."""
        return self._slot(layer, "query_key_value", self._third(0, geometry), geometry, names)

    def key(self, layer: int, geometry: Geometry, names: set[str]) -> QKSlot:
        """The second third of every head's rows."""
        return self._slot(layer, "query_key_value", self._third(1, geometry), geometry, names)

    def value(self, layer: int, geometry: Geometry, names: set[str]) -> QKSlot:
        """The last third of every head's rows."""
        return self._slot(layer, "query_key_value", self._third(2, geometry), geometry, names)

    def _third(self, which: int, geometry: Geometry) -> torch.Tensor:
        rows = torch.arange(3 * geometry.n_heads * geometry.head_dim).view(geometry.n_heads, 3, geometry.head_dim)
        return rows[:, which].flatten()


GPT_NEOX = GptNeoX(
    "gpt_neox",
    ("GPTNeoXForCausalLM",),
    layers_at="gpt_neox.layers",
    attention="attention",
    output="dense",
    partial=True,
    source="transformers/models/gpt_neox/modeling_gpt_neox.py",
)
