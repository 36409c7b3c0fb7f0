"""A constant taken off K, folded into the bias of W_K: k - b of every token is W_K x + (bias - b).

What is taken off is the same for every key, so that each logit of a row moves by -q . b and its softmax stays as it
is, where the channel does not turn. Where W_K has no bias it gets one; in a fused projection that is 0 for q and v.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from qroar_core.errors import BadScales
from qroar_core.models.geometry import Geometry

if TYPE_CHECKING:  # a GGUF file is copied without transformers
    from qroar_core.models.families import QKSlot

Slots = list[tuple["QKSlot", "QKSlot"]]


def check_k_offset(geometry: Geometry, offset: Tensor) -> None:
    """Raises BadScales where an offset is not of this model's keys, BadSpec where its keys take none."""
    geometry.require_k_offset()
    wanted = (geometry.n_layers, geometry.n_kv_heads, geometry.head_dim)
    if tuple(offset.shape) != wanted:
        raise BadScales(f"a K offset is {tuple(offset.shape)}, this model's keys need {wanted}")


def own_slots(slots: Slots, parameters: Mapping[str, Tensor | None]) -> Slots:
    """Slots without the biases that only applied scales have brought."""
    return [(_without_brought(query, parameters), _without_brought(key, parameters)) for query, key in slots]


def offset_biases(
    slots: Slots, parameters: Mapping[str, Tensor | None], offset: Tensor, factor: float
) -> tuple[Slots, dict[str, Tensor]]:
    """The bias of every key projection with something to take off, float64, and slots that name it.

    Args:
        parameters: by name, without those of `slots` that have none.
        offset: (layers, n_kv_heads, head_dim), in the units of k before RoPE.
        factor: what k is multiplied by behind the projection.
    """
    named, biases = [], dict[str, Tensor]()
    for (query, key), b in zip(slots, offset, strict=True):
        if bool(b.any()):
            weight = parameters[key.weight]
            assert weight is not None
            name = key.weight.removesuffix("weight") + "bias"
            own = parameters.get(name)
            bias = weight.new_zeros(len(weight), dtype=torch.float64) if own is None else own.double()
            bias = biases.get(name, bias).clone()
            bias[key.rows.to(bias.device)] -= b.flatten().to(bias) / factor
            biases[name], key = bias, replace(key, bias=name)
        named.append((query, key))
    return named, biases


def _without_brought(slot: QKSlot, parameters: Mapping[str, Tensor | None]) -> QKSlot:
    return replace(slot, bias=None) if slot.bias and parameters.get(slot.bias) is None else slot
