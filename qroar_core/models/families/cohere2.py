"""Cohere Command R7B and Command A: Cohere's layout whose sliding layers rotate and whose full ones do not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qroar_core.models.families.cohere import Cohere


@dataclass(frozen=True, slots=True)
class Cohere2(Cohere):
    """A layer rotates where it has a window: those that read the whole context have no bands and take no scale."""

    def has_qk_norm(self, config: Any) -> bool:
        """This family has no norm on q and k."""
        return False

    def without_rope(self, config: Any) -> tuple[int, ...]:
        """Layers that see everything."""
        windows = self.windows(config)
        return tuple(i for i in range(config.num_hidden_layers) if not windows or windows[i] is None)


COHERE2 = Cohere2(
    "cohere2",
    ("Cohere2ForCausalLM",),
    pairing="interleaved",
    sliding="by type",
    source="transformers/models/cohere2/modeling_cohere2.py",
)
