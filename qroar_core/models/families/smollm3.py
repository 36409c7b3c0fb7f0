"""SmolLM3: Llama's layout with every fourth layer unrotated; those layers have no bands and take no scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qroar_core.models.families.base import Family


@dataclass(frozen=True, slots=True)
class SmolLm3(Family):
    """`no_rope_layers` holds a 1 for every layer that does rotate."""

    def without_rope(self, config: Any) -> tuple[int, ...]:
        """Layers whose entry is 0."""
        return tuple(i for i, turns in enumerate(config.no_rope_layers) if not turns)

    def windows(self, config: Any) -> tuple[int | None, ...]:
        """Its sliding_window holds only while `use_sliding_window` is set."""
        return Family.windows(self, config) if config.use_sliding_window else ()


SMOLLM3 = SmolLm3(
    "smollm3",
    ("SmolLM3ForCausalLM",),
    sliding="by type",
    gguf_permutes=True,
    source="transformers/models/smollm3/modeling_smollm3.py",
)
