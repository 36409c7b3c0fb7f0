"""What a family must tell: where q and k rows live, and where the decoder's parts are.

A family is data. `Family` covers every model with separate q_proj / k_proj under
`model.layers.N.self_attn`; a family that differs overrides the few methods that differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from qroar_core.errors import UnsupportedModel
from qroar_core.maths.rope import Pairing
from qroar_core.models.geometry import Geometry


@dataclass(frozen=True, slots=True, eq=False)
class QKSlot:
    """Where one layer keeps its query (or key) output channels. Names, not copies.

    `rows` indexes dim 0 of `weight` (and of `bias`) in (head, channel) order, so separate, fused and
    interleaved-fused projections all read alike.
    """

    weight: str  # state-dict key of the (possibly fused) projection
    bias: str | None
    rows: Tensor  # int64, (heads * head_dim,)
    norm_gain: str | None = None  # QK-norm before RoPE: this key takes the scale, W would be normalised away
    gain_offset: float = 0.0  # 1.0 where the norm multiplies by (1 + w)


@dataclass(frozen=True, slots=True)
class Family:
    """One attention layout, registered by architecture name."""

    name: str
    architectures: tuple[str, ...]
    pairing: Pairing = "half"
    attention: str = "self_attn"
    source: str = ""  # the file of transformers this was read from

    def geometry(self, config: Any, parameters: int) -> Geometry:
        """Read the sizes from a config.

        Raises:
            UnsupportedModel: odd rotary_dim, or query heads that do not divide by KV heads.
        """
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        rope = getattr(config, "rope_parameters", None) or {}
        if "rope_theta" not in rope:
            raise UnsupportedModel("its config names no rope_theta", where=self.name, do="add rope_parameters to it")
        rotary_dim = int(head_dim * (rope.get("partial_rotary_factor") or 1.0))
        if rotary_dim % 2 or rotary_dim < 4:
            raise UnsupportedModel(
                f"rotary_dim {rotary_dim} must be even and at least 4",
                where="config.json",
                do="check head_dim and partial_rotary_factor",
            )
        kind = rope.get("rope_type", "default")
        if kind not in ("default", *ROPE_INIT_FUNCTIONS):
            raise UnsupportedModel(f"unknown rope_type {kind!r}", where="config.json", do="see its rope_parameters")
        n_kv = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        if config.num_attention_heads % n_kv:
            raise UnsupportedModel(
                f"{config.num_attention_heads} query heads over {n_kv} KV heads", where="config.json"
            )
        native = rope.get("original_max_position_embeddings") or config.max_position_embeddings
        return Geometry(
            family=self.name,
            n_layers=config.num_hidden_layers,
            n_heads=config.num_attention_heads,
            n_kv_heads=n_kv,
            head_dim=head_dim,
            rotary_dim=rotary_dim,
            pairing=self.pairing,
            theta=float(rope["rope_theta"]),
            original_context=int(native),
            hidden_size=config.hidden_size,
            vocab_size=config.vocab_size,
            parameters=parameters,
        )

    def decoder(self, model: nn.Module) -> Any:
        """The module that maps ids to final hidden states and owns `layers` and `rotary_emb`."""
        return model.model

    def layers(self, model: nn.Module) -> list[nn.Module]:
        """Decoder layers in order."""
        return list(self.decoder(model).layers)

    def rotary(self, model: nn.Module) -> Any:
        """The module that turns position_ids into cos and sin."""
        return self.decoder(model).rotary_emb

    def output_projection(self, layer: int) -> str:
        """State-dict key of W_O, (hidden, n_heads * head_dim)."""
        return f"model.layers.{layer}.{self.attention}.o_proj.weight"

    def query(self, layer: int, geometry: Geometry, names: set[str]) -> QKSlot:
        """Where layer `layer` keeps its queries."""
        return self._separate(f"model.layers.{layer}.{self.attention}.q_proj", geometry.n_heads, geometry, names)

    def key(self, layer: int, geometry: Geometry, names: set[str]) -> QKSlot:
        """Where layer `layer` keeps its keys."""
        return self._separate(f"model.layers.{layer}.{self.attention}.k_proj", geometry.n_kv_heads, geometry, names)

    def value_weight(self, layer: int) -> str:
        """State-dict key of W_V."""
        return f"model.layers.{layer}.{self.attention}.v_proj.weight"

    def _separate(self, stem: str, heads: int, geometry: Geometry, names: set[str]) -> QKSlot:
        if f"{stem}.weight" not in names:
            raise UnsupportedModel(
                f"expected parameter {stem}.weight is missing", where=self.name, do="this layout is not known; refused"
            )
        bias = f"{stem}.bias" if f"{stem}.bias" in names else None
        return QKSlot(f"{stem}.weight", bias, torch.arange(heads * geometry.head_dim))
