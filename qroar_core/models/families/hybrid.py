"""Hybrids: layers with attention, and layers that carry a state instead of K and V. Only the former have RoPE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers import Cache

from qroar_core.errors import UnsupportedModel
from qroar_core.models.families.base import Family
from qroar_core.models.geometry import FULL_ATTENTION
from qroar_core.models.layer_state import LayerState

STATEFUL = ("linear_attention", "conv")  # transformers' names for layers with a state and no K and V


@dataclass(frozen=True, slots=True)
class Hybrid(Family):
    """`layer_types` says which layer is which; attention reads the whole context."""

    def check(self, config: Any) -> None:
        """Raises UnsupportedModel for a kind of layer not known here, or when no layer has attention."""
        unknown = sorted(set(config.layer_types) - {FULL_ATTENTION, *STATEFUL})
        if unknown:
            raise UnsupportedModel(
                f"layers of kind {', '.join(unknown)} are not known",
                where=self.name,
                do=f"known are {', '.join((FULL_ATTENTION, *STATEFUL))}",
            )
        if FULL_ATTENTION not in config.layer_types:
            raise UnsupportedModel("no layer has attention", where=self.name, do="choose a model with rotary positions")

    def attention_layers(self, config: Any) -> tuple[int, ...]:
        """Those that layer_types calls full attention."""
        return tuple(i for i, kind in enumerate(config.layer_types) if kind == FULL_ATTENTION)

    def layer_state(self, config: Any) -> Cache:
        """Of every layer, as transformers makes it from layer_types."""
        return LayerState(config=config)
