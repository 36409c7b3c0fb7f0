"""StableLM: a quarter of each head rotates; a LayerNorm per head on q and k is not supported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qroar_core.errors import UnsupportedModel
from qroar_core.models.families.base import Family


@dataclass(frozen=True, slots=True)
class StableLm(Family):
    """Separate projections, optional biases."""

    def check(self, config: Any) -> None:
        """Raises UnsupportedModel for qk_layernorm: its gains lie in one module per head."""
        if config.qk_layernorm:
            raise UnsupportedModel(
                "qk_layernorm is set: a LayerNorm for every head of q and k is not supported",
                where=self.name,
                do="choose a checkpoint without it, such as StableLM 2 1.6B",
            )

    def head_dim(self, config: Any) -> int:
        """This family reads no head_dim from its config."""
        return config.hidden_size // config.num_attention_heads


STABLELM = StableLm(
    "stablelm",
    ("StableLmForCausalLM",),
    partial=True,
    key_bias="use_qkv_bias",
    source="transformers/models/stablelm/modeling_stablelm.py",
)
