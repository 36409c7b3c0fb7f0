"""The cache of a few layers kept as it is: those that are worth most per byte on development text."""

from __future__ import annotations

from qroar_core.remedies.remedy import PASSES, Remedy, where_no_layer_is_kept

REMEDY = Remedy(
    "protected layers",
    24,
    "K and V cache",
    "a larger cache: 16 bits a number in the layers kept",
    "a cache whose type is chosen by layer (vLLM's --kv-cache-dtype-skip-layers)",
    "this measurement: KL of each layer on development text, greedy by gain per byte under a budget; vLLM 0.32's "
    "kv_cache_dtype_skip_layers",
    where_no_layer_is_kept,
    needs="a quantized K or V cache of which no layer is kept yet",
    free=False,
    alone=True,
    work=PASSES,
)
