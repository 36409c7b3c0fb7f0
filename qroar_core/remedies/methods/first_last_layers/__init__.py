"""The cache of the first and last layers kept as it is: the simple rule, without a measurement."""

from __future__ import annotations

from qroar_core.remedies.remedy import Remedy, where_no_layer_is_kept

REMEDY = Remedy(
    "first and last layers protected",
    25,
    "K and V cache",
    "a larger cache: 16 bits a number in the layers kept",
    "a cache whose type is chosen by layer (vLLM's --kv-cache-dtype-skip-layers)",
    "vLLM 0.32, get_boundary_skip_layers of its TurboQuant cache: as many first as last layers, here under a budget",
    where_no_layer_is_kept,
    needs="a quantized K or V cache of which no layer is kept yet",
    free=False,
    alone=True,
)
