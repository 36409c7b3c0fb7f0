"""Cohere Command R: interleaved pairs; optional LayerNorm on q and k whose gain has a row for every head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from qroar_core.models.families.base import Family


@dataclass(frozen=True, slots=True)
class Cohere(Family):
    """The vocabulary's logits carry a factor; with `use_qk_norm` (Command R+) the gains take the scale."""

    def logits(self, model: Any, hidden: Tensor) -> Tensor:
        """Multiplied by logit_scale."""
        return model.get_output_embeddings()(hidden) * model.config.logit_scale

    def has_qk_norm(self, config: Any) -> bool:
        """Command R has no norms, Command R+ does."""
        return bool(config.use_qk_norm)


COHERE = Cohere(
    "cohere",
    ("CohereForCausalLM",),
    pairing="interleaved",
    norms=("q_norm", "k_norm"),
    source="transformers/models/cohere/modeling_cohere.py",
)
