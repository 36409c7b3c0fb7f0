"""Falcon H1: attention and Mamba 2 side by side in every layer; factors of its own on keys and vocabulary logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import Cache

from qroar_core.models.families.base import Family
from qroar_core.models.layer_state import LayerState


@dataclass(frozen=True, slots=True)
class FalconH1(Family):
    """All layers have K and V, and a state beside them. The factor on k comes behind k_proj and passes a scale on."""

    def layer_state(self, config: Any) -> Cache:
        """The Mamba 2 half of every layer."""
        return LayerState(config=config)

    def key_factor(self, config: Any) -> float:
        """key_multiplier."""
        return float(config.key_multiplier)

    def logits(self, model: Any, hidden: Tensor) -> Tensor:
        """Times lm_head_multiplier."""
        return model.get_output_embeddings()(hidden) * model.config.lm_head_multiplier


FALCON_H1 = FalconH1(
    "falcon_h1", ("FalconH1ForCausalLM",), source="transformers/models/falcon_h1/modeling_falcon_h1.py"
)
