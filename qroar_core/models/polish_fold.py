"""A polish of tied pairs put into weights: P_q on the rows of W_Q and P_k on those of W_K, and on their biases.

It comes before scales, angles and maps, and before an offset of K: those act on what it leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from qroar_core.errors import BadScales
from qroar_core.models.geometry import Geometry
from qroar_core.models.mixed_rows import mixed_rows
from qroar_core.transforms.polish import Polish

if TYPE_CHECKING:  # a GGUF file is copied without transformers
    from qroar_core.models.families import QKSlot


def check_polish(geometry: Geometry, polish: Polish) -> None:
    """Raises BadScales where a polish is not of this model's heads, BadSpec where they take none."""
    geometry.require_polish()
    wanted = (geometry.n_layers, geometry.n_heads, geometry.n_kv_heads)
    if polish.heads != wanted:
        raise BadScales(f"a polish is of (layers, query heads, KV heads) {polish.heads}, this model has {wanted}")
    last = max(group.last for group in polish.groups)
    if last >= geometry.n_pairs:
        raise BadScales(f"a polish is of pair {last}, this model has {geometry.n_pairs} RoPE pairs a head")


def polished(
    slots: list[tuple[QKSlot, QKSlot]], parameters: Mapping[str, Tensor], polish: Polish, geometry: Geometry
) -> dict[str, Tensor]:
    """W_Q, W_K and biases under a polish, at least float32; layers without RoPE, where nothing is tied, stay.

    Args:
        parameters: by name, the model's own.
    """
    new: dict[str, Tensor] = {}
    for layer, pair in enumerate(slots):
        if layer in geometry.without_rope:
            continue
        each = polish.of_layer(layer, geometry.head_dim, geometry.rotary_dim, geometry.pairing)
        for slot, matrix in zip(pair, each, strict=True):
            for name in filter(None, (slot.weight, slot.bias)):
                source = new.get(name, parameters[name])  # a fused projection has q's part inside already
                wide = source.to(torch.promote_types(source.dtype, torch.float32)).clone()
                rows = slot.rows.to(wide.device)
                wide[rows] = mixed_rows(wide[rows], slot, len(matrix), matrix)
                new[name] = wide
    return new
