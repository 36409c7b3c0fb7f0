"""Granite 4: Mamba 2 between layers of attention; most checkpoints carry no positions at all and are refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from qroar_core.errors import UnsupportedModel
from qroar_core.models.families.hybrid import Hybrid


@dataclass(frozen=True, slots=True)
class GraniteHybrid(Hybrid):
    """Granite's factors on attention and vocabulary logits."""

    def check(self, config: Any) -> None:
        """Raises UnsupportedModel also without RoPE."""
        Hybrid.check(self, config)
        if config.position_embedding_type != "rope":
            raise UnsupportedModel(
                f"it has no RoPE (position_embedding_type {config.position_embedding_type!r})",
                where=self.name,
                do="choose a model with rotary positions",
            )

    def logits(self, model: Any, hidden: Tensor) -> Tensor:
        """Divided by logits_scaling."""
        return model.get_output_embeddings()(hidden) / model.config.logits_scaling


GRANITE_HYBRID = GraniteHybrid(
    "granitemoehybrid",
    ("GraniteMoeHybridForCausalLM",),
    gguf_permutes=True,
    source="transformers/models/granitemoehybrid/modeling_granitemoehybrid.py",
)
