"""Named quantizers: what the runtimes people use do to the K/V cache and to weights, and where it says so.

One file a runtime, found by itself. Each preset was copied from the runtime's source (repository, file, pull request or
commit in `source`) and does what the runtime does by default, which is not always what its name suggests: llama.cpp
rotates before it rounds, transformers' "per-channel" quanto cache has one scale per 64 channels of a
token, vLLM's fp8 cache scales by 1.0 unless the checkpoint brings scales. What a `QuantizerSpec`
can't express stands in `note`. Scales that a runtime keeps in the model's dtype are `input` here.
"""

from __future__ import annotations

from pathlib import Path

from qroar_core.errors import BadSpec
from qroar_core.members import members_of, names_in
from qroar_core.quantizers.preset import KVPreset, Runtime, WeightPreset
from qroar_core.quantizers.spec import QuantSpec

RUNTIMES: dict[str, Runtime] = members_of(__name__, names_in(Path(__file__).parent), "RUNTIME")
KV_PRESETS: dict[str, KVPreset] = {n: preset for runtime in RUNTIMES.values() for n, preset in runtime.caches.items()}
WEIGHT_PRESETS: dict[str, WeightPreset] = {
    name: preset for runtime in RUNTIMES.values() for name, preset in runtime.weights.items()
}


def preset_names() -> tuple[str, ...]:
    """All presets, K/V cache first."""
    return (*KV_PRESETS, *WEIGHT_PRESETS)


def preset_quant(name: str) -> QuantSpec:
    """The whole QuantSpec of a preset: K and V for a cache preset, the weights for a weight preset.

    Raises:
        BadSpec: unknown name; the message lists the known ones.
    """
    if name in KV_PRESETS:
        return QuantSpec(k=KV_PRESETS[name].k, v=KV_PRESETS[name].v, name=name)
    if name in WEIGHT_PRESETS:
        return QuantSpec(weights=WEIGHT_PRESETS[name].weights, name=name)
    raise BadSpec(f"unknown preset {name!r}", do=f"choose one of {', '.join(preset_names())}")
