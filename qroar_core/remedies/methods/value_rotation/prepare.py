"""V of every KV head turned by one Hadamard matrix, which W_O turns back.

A head whose size is no power of two is turned in diagonal blocks of the largest one that divides it, as the rotation
of q and k is.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from qroar_core.errors import BadSpec
from qroar_core.models.geometry import Geometry
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.patch import scaled_parameters
from qroar_core.quantizers.hadamard import hadamard, hadamard_block
from qroar_core.remedies.prepared import Prepared, RemedyInputs
from qroar_core.setting import Setting
from qroar_core.transforms.scales import Scales, identity


def why_not(loaded: LoadedModel, setting: Setting) -> str:
    """Where something between V and W_O tells channels apart, or an odd head has no Hadamard matrix."""
    size = loaded.geometry.value_dim
    if hadamard_block(size) == 1:
        return f"value heads of {size} channels, an odd number, have no Hadamard matrix"
    try:
        loaded.geometry.require_value_maps()
        loaded.geometry.require_cache(setting.quant)
    except BadSpec as refusal:
        return refusal.what
    return ""


def prepare(given: RemedyInputs) -> Prepared:
    """W_V times H and W_O times H^-1, which is H; no text is read."""
    return Prepared(given.quant, scaled_parameters(given.loaded, rotated_values(given.loaded.geometry)))


def rotated_values(geometry: Geometry) -> Scales:
    """No scales, and V of every head rotated."""
    turned = hadamard(torch.eye(geometry.value_dim, dtype=torch.float64))
    none = identity(geometry.n_layers, geometry.n_kv_heads, ((0, geometry.n_pairs - 1),))
    return replace(none, value_maps=turned.expand(geometry.n_layers, geometry.n_kv_heads, -1, -1).contiguous())
