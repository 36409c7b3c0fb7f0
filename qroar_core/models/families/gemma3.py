"""Gemma 3 (text): QK-norm with gain 1 + w shared by all heads; local layers turn by another theta than global ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qroar_core.errors import UnsupportedModel
from qroar_core.models.families.gemma2 import Gemma2
from qroar_core.models.geometry import FULL_ATTENTION


@dataclass(frozen=True, slots=True)
class Gemma3(Gemma2):
    """rope_parameters holds a block for sliding and one for full attention; interpolation changes the latter."""

    def check(self, config: Any) -> None:
        """Raises UnsupportedModel also for a cap on q . k, which this family's code reads but never applies."""
        Gemma2.check(self, config)
        if config.attn_logit_softcapping is not None:
            raise UnsupportedModel(
                "attn_logit_softcapping is set, which transformers does not apply in this family",
                where=self.name,
                do="remove it from config.json",
            )

        if FULL_ATTENTION not in config.layer_types:
            raise UnsupportedModel("no layer reads the whole context", where=self.name, do="check layer_types")

    def rope_blocks(self, config: Any) -> dict[str, dict[str, Any]]:
        """The block of full attention first."""
        blocks = config.rope_parameters or {}
        wanted = dict.fromkeys((FULL_ATTENTION, *config.layer_types))
        return {kind: blocks.get(kind) or {} for kind in wanted}

    def rope_kinds(self, config: Any) -> tuple[str, ...]:
        """layer_types."""
        return tuple(config.layer_types)


GEMMA3 = Gemma3(
    "gemma3",
    ("Gemma3ForCausalLM",),
    norms=("q_norm", "k_norm"),
    gain_offset=1.0,
    gain_shared=True,
    sliding="by type",
    source="transformers/models/gemma3/modeling_gemma3.py",
)
