"""Value maps put into weights: M on the rows of W_V and its bias, M^-1 on the columns of W_O that read them.

v -> M v of a KV head, o_h = sum p v -> M o_h of every query head that reads it, and W_O,h M^-1 (M o_h) = W_O,h o_h: no
output changes, at any position, for any invertible M, as nothing between V and W_O tells channels apart. W_O's bias is
added behind it and stays. QuaRot (2404.00456) does this with a Hadamard matrix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from qroar_core.errors import BadScales
from qroar_core.models.geometry import Geometry

if TYPE_CHECKING:  # a GGUF file is copied without transformers
    from qroar_core.models.families import QKSlot


def check_value_maps(geometry: Geometry, maps: Tensor) -> None:
    """Raises BadScales where `maps` are not of this model's values, BadSpec where its values take none."""
    geometry.require_value_maps()
    wanted = (geometry.n_layers, geometry.n_kv_heads, geometry.value_dim, geometry.value_dim)
    if tuple(maps.shape) != wanted:
        raise BadScales(f"value maps are {tuple(maps.shape)}, this model's values need {wanted}")


def map_values(
    new: dict[str, Tensor], parameters: dict[str, Tensor], slots: list[tuple[QKSlot, str]], maps: Tensor
) -> None:
    """Put maps (layers, n_kv_heads, value_dim, value_dim) into `new`, which has what is changed so far.

    Args:
        parameters: the model's own, by name.
        slots: of every layer, where its values are, and the name of its W_O.
    """
    for (slot, output), on_v in zip(slots, maps, strict=True):
        for name in filter(None, (slot.weight, slot.bias)):
            source = new.get(name, parameters[name])  # a fused projection has q's and k's part inside already
            new[name] = _mapped_rows(source, slot.rows, on_v)
        new[output] = _mapped_columns(new.get(output, parameters[output]), torch.linalg.inv(on_v))


def _mapped_rows(source: Tensor, rows: Tensor, on_v: Tensor) -> Tensor:
    """A weight (all rows, in) or bias (all rows,) whose `rows` (n_kv_heads * value_dim,) are M times those."""
    changed, at = source.clone(), rows.to(source.device)
    by_head = source[at].double().view(*on_v.shape[:2], -1)  # (n_kv_heads, value_dim, in), or 1 for a bias
    changed[at] = (on_v.to(by_head) @ by_head).reshape(source[at].shape).to(source.dtype)
    return changed


def _mapped_columns(source: Tensor, inverse: Tensor) -> Tensor:
    """W_O (hidden, n_heads * value_dim) with the columns of every query head times its KV head's M^-1."""
    kv, size = inverse.shape[:2]
    by_head = source.double().view(len(source), kv, -1, size)  # (hidden, kv, group, value_dim)
    return torch.einsum("okgd,kdc->okgc", by_head, inverse.to(by_head)).reshape(source.shape).to(source.dtype)
