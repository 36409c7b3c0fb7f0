"""RoPE of a head described by three numbers: the same initialisers as a loaded model's, no model needed.

transformers' LlamaConfig would serve as the description, but importing it takes seconds in a process that has loaded
no model yet; `PlainConfig` carries the few fields that the initialisers read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from qroar_core.interpolations.frequencies import Rope, rope_for
from qroar_core.maths.rope import static_ntk
from qroar_core.models.families.llama import LLAMA
from qroar_core.specs import RopeSpec


@dataclass
class PlainConfig:
    """What transformers' RoPE initialisers and `Family.geometry` read of a config: one layer, one head."""

    head_dim: int
    hidden_size: int  # channels, = head_dim
    max_position_embeddings: int  # tokens
    rope_parameters: dict[str, Any]
    num_attention_heads: int = 1
    num_hidden_layers: int = 1
    vocab_size: int = 1

    def standardize_rope_params(self) -> None:
        """Called by every initialiser to fill gaps; `rope_parameters` of interpolations/frequencies.py leaves none."""


def plain_config(theta: float, head_dim: int, original_context: int, own: dict[str, Any] | None = None) -> PlainConfig:
    """A config of such a head; see `plain_rope`."""
    return PlainConfig(head_dim, head_dim, original_context, own or {"rope_type": "default", "rope_theta": theta})


def plain_rope(
    theta: float,
    head_dim: int,
    original_context: int,
    spec: RopeSpec,
    length: int,
    own: dict[str, Any] | None = None,
) -> Rope:
    """`rope_for` of a Llama head that rotates all its channels, for a context of `length` tokens.

    Args:
        theta: RoPE base. head_dim: channels, even, >= 4. original_context: L0, tokens.
        own: the `rope_parameters` that it has itself; None: no interpolation.
    Raises:
        UnsupportedModel: head_dim odd or under 4. BadSpec: as `rope_for`.
    """
    config = plain_config(theta, head_dim, original_context, own)
    return rope_for(config, LLAMA.geometry(config, parameters=0), spec, length, _default)


def _default(config: PlainConfig) -> tuple[Tensor, float]:
    """theta^(-2i/d): transformers keeps it in each family's modelling file, not among its initialisers."""
    return static_ntk(config.rope_parameters["rope_theta"], config.head_dim, 1.0), 1.0
