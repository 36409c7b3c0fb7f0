"""Granite 3: Llama's layout; logits of attention and vocabulary carry factors of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from qroar_core.models.families.base import Family


@dataclass(frozen=True, slots=True)
class Granite(Family):
    """The factor on q . k comes with every call of the attention; the one on the vocabulary is here."""

    def logits(self, model: Any, hidden: Tensor) -> Tensor:
        """Divided by logits_scaling."""
        return model.get_output_embeddings()(hidden) / model.config.logits_scaling


GRANITE = Granite(
    "granite", ("GraniteForCausalLM",), gguf_permutes=True, source="transformers/models/granite/modeling_granite.py"
)
