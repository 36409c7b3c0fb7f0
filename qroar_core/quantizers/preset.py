"""What a runtime says about its cache and weight formats: a file of `quantizers/presets` is one runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qroar_core.quantizers.spec import QuantizerSpec, WeightQuantSpec


@dataclass(frozen=True, slots=True)
class KVPreset:
    """One runtime's K/V cache. `source` is where it was read, `note` what is left out."""

    k: QuantizerSpec
    v: QuantizerSpec
    source: str
    note: str


@dataclass(frozen=True, slots=True)
class WeightPreset:
    """One weight format, round to nearest."""

    weights: WeightQuantSpec
    source: str
    note: str


@dataclass(frozen=True, slots=True)
class Runtime:
    """The presets of one runtime, by the names that people ask for them with. `place`: smaller comes first in menus."""

    place: int
    caches: Mapping[str, KVPreset] = field(default_factory=dict)
    weights: Mapping[str, WeightPreset] = field(default_factory=dict)
