"""The numbers of a model's attention that everything else needs, read once from its config."""

from __future__ import annotations

from dataclasses import dataclass

from qroar_core.maths.rope import Pairing


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

    @property
    def n_pairs(self) -> int:
        """RoPE pairs per head."""
        return self.rotary_dim // 2

    @property
    def queries_per_kv(self) -> int:
        """Query heads that read one KV head (1 = MHA, n_heads = MQA)."""
        return self.n_heads // self.n_kv_heads
