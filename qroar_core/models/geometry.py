"""The numbers of a model's attention that everything else needs, read once from its config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from qroar_core.errors import BadSpec
from qroar_core.maths.rope import Pairing
from qroar_core.specs import Granularity

FULL_ATTENTION = "full_attention"  # transformers' name for layers that read the whole context


@dataclass(frozen=True, slots=True)
class Geometry:
    """Sizes in channels and tokens. `original_context` is the native window L0 the model was trained to."""

    family: str
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int  # from the config, never hidden_size // n_heads
    rotary_dim: int  # <= head_dim; later channels carry no RoPE
    pairing: Pairing
    theta: float
    original_context: int
    hidden_size: int
    vocab_size: int
    parameters: int
    finest: Granularity = "kv_head"  # finest granularity that scales can take exactly
    scaled_gain: bool = False  # the scale goes into a QK-norm's gain; W_Q and W_K stay as they are
    rope_kinds: tuple[str, ...] = ()  # each layer's block of rope_parameters, by name; empty: one block for all
    without_rope: tuple[int, ...] = ()  # layers whose q and k are never rotated: they have no bands and take no scale

    @property
    def n_pairs(self) -> int:
        """RoPE pairs per head."""
        return self.rotary_dim // 2

    @property
    def queries_per_kv(self) -> int:
        """Query heads that read one KV head (1 = MHA, n_heads = MQA)."""
        return self.n_heads // self.n_kv_heads

    @property
    def interpolated_kind(self) -> str:
        """The block of rope_parameters that an interpolation changes; "" where there is one block only.

        Layers that see a short window only never meet a long distance, so theirs stays as it ships.
        """
        return FULL_ATTENTION if self.rope_kinds else ""

    def kind_of(self, layer: int) -> str:
        """Name of the block of rope_parameters that layer `layer` turns by, "" where there is one block only."""
        return self.rope_kinds[layer] if self.rope_kinds else ""

    def require_granularity(self, granularity: Granularity) -> None:
        """Raises BadSpec when scales this fine cannot be put into this family's weights exactly."""
        if granularity == "kv_head" and self.finest != "kv_head":
            raise BadSpec(
                f"{self.family} shares its QK-norm gain between all {self.n_kv_heads} KV heads of a layer, "
                "so one scale per head cannot be exact",
                where=f"--granularity {granularity}",
                do=f"choose --granularity {self.finest}",
            )


class Described(Protocol):
    """What a scales file is checked against: a loaded model, or one that was only read about."""

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def geometry(self) -> Geometry: ...
