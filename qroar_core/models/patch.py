"""Changing parameters and getting them back bit for bit.

A changed parameter gets a new tensor as its storage; the old tensor is kept aside untouched, so
restoring is putting it back, not computing an inverse.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from qroar_core.errors import BadScales
from qroar_core.maths.rescale import Scales, channel_gains
from qroar_core.maths.weights import fake_quantize_weight
from qroar_core.models.families import QKSlot
from qroar_core.models.loaded import LoadedModel
from qroar_core.specs import WeightQuantSpec


@contextmanager
def replaced(model: nn.Module, new: dict[str, Tensor]) -> Iterator[None]:
    """Run with parameters `new` (name -> tensor of the same shape); the originals return afterwards."""
    parameters = dict(model.named_parameters())
    old = {name: parameters[name].data for name in new}
    try:
        for name, tensor in new.items():
            parameters[name].data = tensor
        yield
    finally:
        for name, tensor in old.items():
            parameters[name].data = tensor


def check_scales(loaded: LoadedModel, scales: Scales) -> None:
    """Raises BadScales when `scales` do not fit this model's layers, heads or pairs."""
    geo = loaded.geometry
    expected = (geo.n_layers, geo.n_kv_heads)
    if tuple(scales.g.shape[:2]) != expected:
        raise BadScales(f"scales are for (layers, kv_heads) {tuple(scales.g.shape[:2])}, this model has {expected}")
    covered = [pair for first, last in scales.bands for pair in range(first, last + 1)]
    if covered != list(range(geo.n_pairs)):
        raise BadScales(f"bands {scales.bands} do not cover this model's {geo.n_pairs} RoPE pairs once each")


def scaled_parameters(loaded: LoadedModel, scales: Scales) -> dict[str, Tensor]:
    """W_Q, W_K, their biases or QK-norm gains with `scales` multiplied in, in the model's dtype.

    Products are formed in float32 (float64 models: float64) and rounded once.
    """
    check_scales(loaded, scales)
    geo = loaded.geometry
    gains = channel_gains(scales, geo.head_dim, geo.rotary_dim, geo.pairing, geo.n_heads)
    parameters = {name: p.data for name, p in loaded.model.named_parameters()} | loaded.originals
    new: dict[str, Tensor] = {}
    for layer, slots in enumerate(loaded.slots()):
        for slot, gain in zip(slots, gains, strict=True):
            _scale_slot(new, parameters, slot, gain[layer].flatten())
    return new


def _scale_slot(new: dict[str, Tensor], parameters: dict[str, Tensor], slot: QKSlot, gain: Tensor) -> None:
    if slot.norm_gain is not None:
        raise BadScales("scales on a QK-norm gain are not supported for this family yet", where=slot.norm_gain)
    for name in filter(None, (slot.weight, slot.bias)):
        source = new.get(name, parameters[name])  # a fused projection takes both gains
        wide = source.double() if source.dtype == torch.float64 else source.float()
        column = gain.to(wide) if source.ndim == 1 else gain.to(wide)[:, None]
        wide = wide.clone()
        wide[slot.rows.to(wide.device)] *= column
        new[name] = wide.to(source.dtype)


def quantized_parameters(loaded: LoadedModel, spec: WeightQuantSpec, base: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every decoder linear weight fake-quantized, starting from `base` where it has the name."""
    new = dict(base)
    linear = {id(m.weight) for layer in loaded.family.layers(loaded.model) for m in layer.modules()
              if isinstance(m, nn.Linear)}  # fmt: skip
    for name, parameter in loaded.model.named_parameters():
        if id(parameter) in linear:
            new[name] = fake_quantize_weight(base.get(name, parameter.data), spec)
    return new


def apply_scales(loaded: LoadedModel, scales: Scales) -> None:
    """Put `scales` into the loaded model until `undo_scales`; what was applied before is undone first."""
    with loaded.lock:
        new = scaled_parameters(loaded, scales)  # from the originals; refused scales leave everything as it is
        undo_scales(loaded)
        parameters = dict(loaded.model.named_parameters())
        loaded.originals = {name: parameters[name].data for name in new}
        for name, tensor in new.items():
            parameters[name].data = tensor
        loaded.applied = scales


def undo_scales(loaded: LoadedModel) -> None:
    """Restore the loaded weights bit for bit; without applied scales it does nothing."""
    with loaded.lock:
        parameters = dict(loaded.model.named_parameters())
        for name, tensor in loaded.originals.items():
            parameters[name].data = tensor
        loaded.originals, loaded.applied = {}, None
