"""DeepSeek-V2 and V3, multi-head latent attention: only a part of each head rotates, and its key is one for all heads.

q of a head is [plain | rotated] (rows of q_b_proj, or of q_proj where q has no low rank); the rotated part of k is the
last rows of kv_a_proj_with_mqa, shared by all heads, the plain part comes out of the latent head by head. So a scale
is one per layer and band. The cache of a runtime holds the latent and the rotated key of a token.
V3's code writes the rotated pairs (2i, 2i + 1) out as (i, i + r/2); they are put back, rotated channels first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qroar_core.errors import UnsupportedModel
from qroar_core.maths.rope import Pairing
from qroar_core.models.families.base import Family
from qroar_core.models.families.slot import QKSlot
from qroar_core.models.geometry import Geometry


@dataclass(frozen=True, slots=True)
class DeepSeek(Family):
    """`rejoined`: the code parts interleaved pairs into two halves while it turns them."""

    rejoined: bool = False

    def check(self, config: Any) -> None:
        """Raises UnsupportedModel for grouped heads, which this attention does not have."""
        if config.num_key_value_heads != config.num_attention_heads:
            raise UnsupportedModel(
                f"{config.num_key_value_heads} KV heads: its latent gives every one of {config.num_attention_heads} "
                "heads a key of its own",
                where=self.name,
                do="check num_key_value_heads",
            )

    def head_dim(self, config: Any) -> int:
        """Plain and rotated channels of q and k."""
        return config.qk_nope_head_dim + config.qk_rope_head_dim

    def rotating(self, config: Any) -> int:
        """The rotated part alone."""
        return config.qk_rope_head_dim

    def value_dim(self, config: Any) -> int:
        """Values have a size of their own."""
        return config.v_head_dim

    def latent_dim(self, config: Any) -> int:
        """The latent that a cache holds."""
        return config.kv_lora_rank

    def rope_pairing_of(self, config: Any) -> Pairing:
        """V3 has an option for it, V2 has not."""
        return "interleaved" if getattr(config, "rope_interleave", True) else "half"

    def channel_order_in(self, geometry: Geometry) -> Tensor | None:
        """Rotated channels come last, and V3's as two halves."""
        plain, turned = geometry.head_dim - geometry.rotary_dim, torch.arange(geometry.rotary_dim)
        if self.rejoined and geometry.pairing == "interleaved":
            turned = turned.view(2, -1).T.flatten()  # channels 2i and 2i + 1 stand at i and i + r/2
        return torch.cat((plain + turned, torch.arange(plain)))

    def query(self, layer: int, geometry: Geometry, names: set[str]) -> QKSlot:
        """Rows of q_b_proj behind a low rank, of q_proj without."""
        low_rank = f"{self._stem(layer)}.q_b_proj.weight" in names
        plain = geometry.head_dim - geometry.rotary_dim
        turned_first = torch.cat((plain + torch.arange(geometry.rotary_dim), torch.arange(plain)))
        rows = torch.arange(geometry.n_heads)[:, None] * geometry.head_dim + turned_first  # (heads, head_dim)
        return self._slot(layer, "q_b_proj" if low_rank else "q_proj", rows.flatten(), geometry, names)

    def key(self, layer: int, geometry: Geometry, names: set[str]) -> QKSlot:
        """The rotated rows, behind those of the latent."""
        slot = self._slot(layer, "kv_a_proj_with_mqa", torch.arange(geometry.rotary_dim), geometry, names)
        return QKSlot(slot.weight, slot.bias, slot.rows + geometry.latent_dim, shared=True)

    def value(self, layer: int, geometry: Geometry, names: set[str]) -> QKSlot:
        """Every head's rows of kv_b_proj behind those of its plain keys: V comes out of the latent there."""
        plain = geometry.head_dim - geometry.rotary_dim
        first = torch.arange(geometry.n_heads)[:, None] * (plain + geometry.value_dim) + plain
        rows = (first + torch.arange(geometry.value_dim)).flatten()
        return self._slot(layer, "kv_b_proj", rows, geometry, names)


DEEPSEEK_V2 = DeepSeek(
    "deepseek_v2", ("DeepseekV2ForCausalLM",), source="transformers/models/deepseek_v2/modeling_deepseek_v2.py"
)
DEEPSEEK_V3 = DeepSeek(
    "deepseek_v3",
    ("DeepseekV3ForCausalLM",),
    rejoined=True,
    source="transformers/models/deepseek_v3/modeling_deepseek_v3.py",
)
