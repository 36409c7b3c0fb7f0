"""What a runtime says about its cache and weight formats: a file of `quantizers/presets` is one runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qroar_core.quantizers.memory import MODEL_BITS, bytes_per_token
from qroar_core.quantizers.spec import QuantizerSpec, WeightQuantSpec


@dataclass(frozen=True, slots=True)
class KVPreset:
    """One runtime's K/V cache. `source` is where it was read, `note` what is left out and what must be known.

    `asked` is how a person asks that runtime for it, `what` it is in a few words; both stand in docs/runtimes.md.
    `flags` are the words of the command line that do so, where a recipe can paste them.
    """

    k: QuantizerSpec
    v: QuantizerSpec
    source: str
    note: str
    asked: str = ""
    what: str = ""
    flags: tuple[str, ...] = ()

    def bytes_per_token(self, head_dim: int, model_bits: int = MODEL_BITS) -> float:
        """Bytes of K and V for one token, layer and KV head (`quantizers/memory.py`)."""
        return sum(bytes_per_token(spec, head_dim, model_bits) for spec in (self.k, self.v))


def memory_words(preset: KVPreset, head_dim: int = 128) -> str:
    """`134 bytes of K and V for a token and KV head of 128 channels, 26% of 16 bits.`"""
    size = preset.bytes_per_token(head_dim)
    share = size / (4 * head_dim)
    return f"{size:.4g} bytes of K and V for a token and KV head of {head_dim} channels, {share:.0%} of 16 bits."


@dataclass(frozen=True, slots=True)
class WeightPreset:
    """One weight format, round to nearest."""

    weights: WeightQuantSpec
    source: str
    note: str
    asked: str = ""
    what: str = ""


@dataclass(frozen=True, slots=True)
class Runtime:
    """The presets of one runtime, by the names that people ask for them with. `place`: smaller comes first in menus."""

    place: int
    caches: Mapping[str, KVPreset] = field(default_factory=dict)
    weights: Mapping[str, WeightPreset] = field(default_factory=dict)
