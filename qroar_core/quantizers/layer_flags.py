"""How runtimes are told to keep the cache of some layers as it is, and which cannot be told.

Read from vLLM 0.32.0 (kv_cache_dtype_skip_layers in `vllm/config/cache.py` and
`vllm/model_executor/layers/attention/attention.py`; get_boundary_skip_layers of its TurboQuant cache), xllamacpp
2026.10 (`common_params` has one cache_type_k and one cache_type_v) and transformers 5.23 (`cache_utils.py`:
QuantizedCache makes one kind of layer for all, `Cache(layers=...)` takes a list).
"""

from __future__ import annotations

from collections.abc import Sequence

from qroar_core.quantizers.presets import KV_PRESETS

VLLM = "--kv-cache-dtype-skip-layers"
TURBOQUANT = "turboquant_"  # vLLM keeps the first and last two layers by itself


def vllm_skip_words(layers: Sequence[int]) -> tuple[str, ...]:
    """The words of vLLM's command line that keep these layers' cache in the model's dtype; none without layers."""
    return (VLLM, *map(str, layers)) if layers else ()


def layer_flags(layers: Sequence[int], preset: str = "") -> list[str]:
    """A line for each runtime whose source was read; empty without layers.

    Args:
        layers: numbers among all layers of the decoder, from 0.
        preset: the K/V preset in force, by name; "": none.
    """
    if not layers:
        return []
    dtype = KV_PRESETS[preset].flags if preset in KV_PRESETS else ()
    own = dtype[:1] == ("--kv-cache-dtype",)
    words = " ".join((*dtype, *vllm_skip_words(layers)) if own else vllm_skip_words(layers))
    said = [f"vLLM: {words}" if own else f"vLLM: {words}, beside a --kv-cache-dtype of its own"]
    if preset.startswith(TURBOQUANT):
        said.append("vLLM keeps the first two and the last two layers of a TurboQuant cache in any case")
    numbers = ", ".join(map(str, layers))
    return [
        *said,
        f"transformers: no flag; Cache(layers=[...]) with a DynamicLayer at {numbers} and a quantized layer elsewhere",
        "llama.cpp: cannot be told, --cache-type-k and --cache-type-v hold for every layer",
    ]
