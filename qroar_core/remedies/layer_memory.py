"""What a K/V cache takes of which some layers are kept, which of them a budget holds, and the simple rule.

Bytes are of one token over all layers. Numbers that are not quantized take 16 bits, as they are served. A layer that
sees a short window holds its tokens only, which counts as that share of the context.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from qroar_core.errors import BadSpec
from qroar_core.models.geometry import Geometry
from qroar_core.quantizers.memory import bytes_per_token
from qroar_core.specs import QuantSpec

SHARE, FEWEST = 8, 2  # where no budget is given: room for one layer in so many, and for so many at least
ROUNDING = 1e-6  # of a byte: sums of floats


def require_quantized_cache(geometry: Geometry, quant: QuantSpec) -> None:
    """Raises BadSpec where no cache is quantized, or the model has none to be."""
    if quant.k is None and quant.v is None:
        raise BadSpec(
            "neither K nor V cache is quantized, so there is no layer to keep", where="--kv", do="add --kv int4"
        )
    geometry.require_cache(quant)


def require_budget(geometry: Geometry, quant: QuantSpec, length: int, budget: float | None) -> None:
    """Raises BadSpec for a budget below what the cache takes with no layer kept."""
    least = cache_bytes(geometry, quant, length)
    if budget is not None and budget < least - ROUNDING:
        raise BadSpec(
            f"{budget:g} bytes a token are less than the quantized cache takes without any layer kept",
            where="--cache-bytes",
            do=f"give {math.ceil(least)} to {math.floor(cache_bytes(geometry, QuantSpec(), length))}",
        )


def layer_bytes(geometry: Geometry, quant: QuantSpec, length: int) -> dict[int, float]:
    """Bytes a token of each layer's K and V, by its number; a layer that sees a window holds that share of `length`.

    Numbers that are not quantized take 16 bits, as they are served.
    """
    found = {}
    for layer in range(geometry.n_layers):
        mine = geometry.quant_at(layer, quant)
        head = bytes_per_token(mine.k, geometry.head_dim) + bytes_per_token(mine.v, geometry.value_dim)
        seen = geometry.window_of(layer) or length
        found[geometry.decoder_layer(layer)] = geometry.n_kv_heads * head * min(seen, length) / length
    return found


def cache_bytes(geometry: Geometry, quant: QuantSpec, length: int) -> float:
    """Bytes a token of the whole cache, see `layer_bytes`."""
    return math.fsum(layer_bytes(geometry, quant, length).values())


def kept_bytes(geometry: Geometry, quant: QuantSpec, length: int) -> dict[int, float]:
    """What each layer's cache takes more, bytes a token, where it is kept."""
    wide = layer_bytes(geometry, QuantSpec(), length)
    return {layer: wide[layer] - size for layer, size in layer_bytes(geometry, quant, length).items()}


def budget_of(geometry: Geometry, quant: QuantSpec, length: int, asked: float | None) -> float:
    """The whole cache's most, bytes a token: as asked, or room for an eighth of the layers and two at least."""
    if asked is not None:
        return asked
    more = kept_bytes(geometry, quant, length)
    count = min(len(more), max(FEWEST, math.ceil(len(more) / SHARE)))
    return cache_bytes(geometry, quant, length) + math.fsum(more.values()) / len(more) * count


def within(order: Sequence[int], more: Mapping[int, float], room: float) -> list[int]:
    """Of the layers in this order those that still fit into `room` bytes a token; ascending."""
    taken: list[int] = []
    for layer in order:
        if more[layer] <= room + ROUNDING:
            taken.append(layer)
            room -= more[layer]
    return sorted(taken)


def first_and_last(geometry: Geometry, quant: QuantSpec, length: int, budget: float) -> list[int]:
    """The simple rule under a budget: the first layer, the last, the second, the last but one, while they fit."""
    layers = geometry.decoder_numbers
    count = len(layers)
    order = [layers[i // 2] if i % 2 == 0 else layers[count - 1 - i // 2] for i in range(count)]
    return within(order, kept_bytes(geometry, quant, length), budget - cache_bytes(geometry, quant, length))
