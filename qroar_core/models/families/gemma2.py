"""Gemma 2: soft-capped logits in attention and vocabulary, sliding windows in every second layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from qroar_core.errors import UnsupportedModel
from qroar_core.models.families.base import Family


@dataclass(frozen=True, slots=True)
class Gemma2(Family):
    """The cap on q . k comes with every call of the attention; the one on the vocabulary is here."""

    def check(self, config: Any) -> None:
        """Raises UnsupportedModel for attention that sees the future."""
        if getattr(config, "use_bidirectional_attention", None):
            raise UnsupportedModel("its attention is bidirectional", where=self.name, do="choose a causal model")

    def logits(self, model: Any, hidden: Tensor) -> Tensor:
        """Soft-capped where the config says so."""
        out = model.get_output_embeddings()(hidden)
        cap = model.config.final_logit_softcapping
        return out if cap is None else cap * (out / cap).tanh()


GEMMA2 = Gemma2(
    "gemma2",
    ("Gemma2ForCausalLM",),
    sliding="by type",
    implementation="eager",
    source="transformers/models/gemma2/modeling_gemma2.py",
)
