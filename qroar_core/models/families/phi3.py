"""Phi-3 and Phi-4: one projection holds the rows of q, then k, then v; partial rotary, LongRoPE."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from qroar_core.models.families.base import Family
from qroar_core.models.families.slot import QKSlot
from qroar_core.models.geometry import Geometry


@dataclass(frozen=True, slots=True)
class Phi3(Family):
    """`qkv_proj`, (n_heads + 2 n_kv_heads) * head_dim rows."""

    def query(self, layer: int, geometry: Geometry, names: set[str]) -> QKSlot:
        """The first rows."""
        return self._slot(layer, "qkv_proj", torch.arange(geometry.n_heads * geometry.head_dim), geometry, names)

    def key(self, layer: int, geometry: Geometry, names: set[str]) -> QKSlot:
        """The rows behind q's."""
        rows = torch.arange(geometry.n_kv_heads * geometry.head_dim) + geometry.n_heads * geometry.head_dim
        return self._slot(layer, "qkv_proj", rows, geometry, names)

    def value(self, layer: int, geometry: Geometry, names: set[str]) -> QKSlot:
        """The last rows."""
        before = (geometry.n_heads + geometry.n_kv_heads) * geometry.head_dim
        rows = torch.arange(geometry.n_kv_heads * geometry.head_dim) + before
        return self._slot(layer, "qkv_proj", rows, geometry, names)


PHI3 = Phi3(
    "phi3",
    ("Phi3ForCausalLM",),
    partial=True,
    sliding="all",
    source="transformers/models/phi3/modeling_phi3.py",
)
