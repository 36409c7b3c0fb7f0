"""A matrix for V of each KV head, its inverse in W_O, beside pair scales and angles of K."""

from __future__ import annotations

from qroar_core.quantizers.spec import QuantSpec
from qroar_core.remedies.remedy import FREE, TURNING, Remedy

MAPS = 4  # work of searching the maps of V


def _under(quant: QuantSpec) -> QuantSpec | None:
    return quant if quant.v is not None else None


REMEDY = Remedy(
    "value maps, with pair scales and angles",
    6,
    "K and V cache",
    FREE,
    "nothing: inside W_V and W_O, W_Q and W_K, before those are quantized",
    "this search with `--value-maps`, cached objective",
    _under,
    needs="a quantized V cache",
    takes_scales=False,
    searches=1,
    work=TURNING + MAPS,
)
