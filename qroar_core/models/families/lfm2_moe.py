"""LFM2 mixture of experts: LFM2's attention and convolutions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from qroar_core.models.families.hybrid import Hybrid


@dataclass(frozen=True, slots=True)
class Lfm2Moe(Hybrid):
    """The rotary module has a name of its own."""

    def rotary(self, model: nn.Module) -> Any:
        """`pos_emb`."""
        return self.decoder(model).pos_emb


LFM2_MOE = Lfm2Moe(
    "lfm2_moe",
    ("Lfm2MoeForCausalLM",),
    output="out_proj",
    norms=("q_layernorm", "k_layernorm"),
    gain_shared=True,
    source="transformers/models/lfm2_moe/modeling_lfm2_moe.py",
)
