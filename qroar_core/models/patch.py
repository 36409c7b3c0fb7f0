"""Changing parameters and getting them back bit for bit.

A changed parameter gets a new tensor as its storage; the old tensor is kept aside untouched, so
restoring is putting it back, not computing an inverse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from qroar_core.errors import BadScales
from qroar_core.maths.rope import Pairing
from qroar_core.models.finite import require_finite_parameters
from qroar_core.models.geometry import Described
from qroar_core.models.key_offset import check_k_offset, offset_biases, own_slots
from qroar_core.models.mixed_rows import mixed_rows, turned_rows
from qroar_core.models.parameter_swap import put, there
from qroar_core.models.polish_fold import check_polish, polished
from qroar_core.models.value_fold import check_value_maps, map_values
from qroar_core.quantizers.fake_quantize import fake_quantize_ste
from qroar_core.quantizers.weights import fake_quantize_weight
from qroar_core.specs import QuantizerSpec, WeightQuantSpec
from qroar_core.transforms.scales import Scales, channel_gains, head_maps

if TYPE_CHECKING:  # a GGUF file is copied without transformers
    from qroar_core.models.families import QKSlot
    from qroar_core.models.loaded import LoadedModel


@contextmanager
def replaced_parameters(model: nn.Module, new: Mapping[str, Tensor | None]) -> Iterator[None]:
    """Run with parameters `new` (name -> tensor of the same shape, None: none); the originals return afterwards."""
    old = there(model, new)
    try:
        put(model, new)
        yield
    finally:
        put(model, old)


@contextmanager
def substituted_weights(
    loaded: LoadedModel, new: dict[str, Tensor], divide: dict[str, Tensor] | None = None
) -> Iterator[None]:
    """Run with parameters `new` as if they were the checkpoint's own; what a person applied is lifted for the while.

    Every condition, search and measurement inside starts from them: scales are multiplied into them, quantizers
    round them.

    Args:
        divide: weight's name of a linear -> s, (in_features,): its inputs are divided by s. With W diag(s) among
            `new` nothing changes in full precision. A checkpoint has 1/s inside the norm or linear before it.
    """
    linears = {f"{name}.weight": module for name, module in loaded.model.named_modules()}
    with loaded.lock:
        originals, hooks = loaded.originals, []
        loaded.originals = {}  # what is applied, and for which setting, stays said: it returns with them
        try:
            for name, s in (divide or {}).items():
                linear = linears[name]
                hooks.append(linear.register_forward_pre_hook(_divided_by(s.to(linear.weight.device, loaded.dtype))))
            with replaced_parameters(loaded.model, originals | new):
                yield
        finally:
            for hook in hooks:
                hook.remove()
            loaded.originals = originals


@contextmanager
def rounded_inputs(loaded: LoadedModel, spec: QuantizerSpec | None) -> Iterator[None]:
    """Run with the inputs of every linear of the decoder layers rounded, one scale a token; None rounds nothing.

    Gradients pass straight through. It comes after what `substituted_weights` divides by, which the norm before a
    linear has inside it.
    """
    if spec is None:
        yield
        return
    hooks = []
    try:
        for layer in loaded.family.layers(loaded.model):
            for module in layer.modules():
                if isinstance(module, nn.Linear):
                    hooks.append(module.register_forward_pre_hook(_rounded_by(spec)))
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _rounded_by(spec: QuantizerSpec) -> Callable[[nn.Module, tuple], tuple]:
    return lambda module, args: (fake_quantize_ste(args[0], spec), *args[1:])


def _divided_by(s: Tensor) -> Callable[[nn.Module, tuple], tuple]:
    return lambda module, args: (args[0] / s, *args[1:])


def check_scales(loaded: Described, scales: Scales) -> None:
    """Raises BadScales when `scales` do not fit this model's layers, heads or pairs, BadSpec when they are too fine."""
    geo = loaded.geometry
    point = replace(scales, k_offset=None).point  # an offset is every head's own
    if not torch.equal(point, point[:, :1].expand_as(point)):
        geo.require_granularity("kv_head")
    if scales.turns:
        geo.require_turns()
    if scales.value_maps is not None:
        check_value_maps(geo, scales.value_maps)
    if scales.k_offset is not None:
        check_k_offset(geo, scales.k_offset)
    if scales.polish is not None:
        check_polish(geo, scales.polish)
    expected = (geo.n_layers, geo.n_kv_heads)
    if tuple(scales.g.shape[:2]) != expected:
        raise BadScales(f"scales are for (layers, kv_heads) {tuple(scales.g.shape[:2])}, this model has {expected}")
    covered = [pair for first, last in scales.bands for pair in range(first, last + 1)]
    if covered != list(range(geo.n_pairs)):
        raise BadScales(f"bands {scales.bands} do not cover this model's {geo.n_pairs} RoPE pairs once each")


def scaled_parameters(loaded: LoadedModel, scales: Scales) -> dict[str, Tensor]:
    """W_Q, W_K, their biases or QK-norm gains with `scales` multiplied in, W_V and W_O with value maps; model's dtype.

    A polish comes before all others. A bias of W_K that there is not comes with an offset.

    Products are formed in float32 (float64 models, and maps: float64) and rounded once. A layer without RoPE has no
    bands: its W_Q and W_K stay as they are whatever g says.

    Raises:
        BadScales: scales of another model. NonFinite: a product that leaves the dtype.
    """
    check_scales(loaded, scales)
    geo = loaded.geometry
    gains = channel_gains(scales, geo.head_dim, geo.rotary_dim, geo.pairing, geo.n_heads)
    maps = head_maps(scales, geo.head_dim, geo.rotary_dim, geo.pairing)
    own = {name: p.data for name, p in loaded.model.named_parameters()} | loaded.originals
    parameters = {name: p for name, p in own.items() if p is not None}
    dtypes = {name: p.dtype for name, p in parameters.items()}
    layers, new = own_slots(loaded.slots(), parameters), dict[str, Tensor]()
    if scales.polish is not None:
        new = polished(layers, parameters, scales.polish, geo)
        parameters |= new
    if scales.k_offset is not None:
        factor = loaded.family.key_factor(loaded.model.config)
        layers, biases = offset_biases(layers, parameters, scales.k_offset, factor)
        new |= biases
    wide = {*new}
    for layer, slots in enumerate(layers):
        if layer in geo.without_rope:
            continue
        angles = scales.angles[layer] if scales.angles is not None else None
        on_k = None if maps is None else maps[layer]
        on_q = None if on_k is None else torch.linalg.inv(on_k).mT
        for slot, gain, matrix in zip(slots, gains, (on_q, on_k), strict=True):
            _scale_slot(new, parameters, slot, gain[layer], angles, matrix, geo.pairing)
    if scales.value_maps is not None:
        map_values(new, parameters, loaded.value_slots(), scales.value_maps)
    for name in wide:
        new[name] = new[name].to(dtypes.get(name, loaded.dtype))
    require_finite_parameters(new, loaded.dtype)
    return new


def _scale_slot(
    new: dict[str, Tensor],
    parameters: dict[str, Tensor],
    slot: QKSlot,
    per_head: Tensor,
    angles: Tensor | None,
    matrix: Tensor | None,
    pairing: Pairing,
) -> None:
    """Multiply gains (heads, head_dim) into one slot: rows of its projection, or its norm's gain; turn, then mix pairs.

    angles: (n_kv_heads, pairs) rad or None; matrix: (n_kv_heads, head_dim, head_dim) or None. Query heads follow
    their KV head. A norm's gain can take neither.
    """
    if slot.norm_gain is not None:
        source = parameters[slot.norm_gain]
        wide = source.double() if source.dtype == torch.float64 else source.float()
        one_for_all = wide.numel() == per_head.shape[1]  # or one a head
        mine = per_head[0] if one_for_all else per_head.flatten()
        scaled = (wide + slot.gain_offset) * mine.to(wide).view_as(wide) - slot.gain_offset
        new[slot.norm_gain] = scaled.to(source.dtype)
        return
    gain = slot.gain_of_rows(per_head)
    for name in filter(None, (slot.weight, slot.bias)):
        source = new[name] if name in new else parameters[name]  # a fused projection takes both gains
        wide = source.double() if source.dtype == torch.float64 else source.float()
        column = gain.to(wide) if source.ndim == 1 else gain.to(wide)[:, None]
        wide, rows = wide.clone(), slot.rows.to(wide.device)
        here = wide[rows] * column
        if angles is not None:
            here = turned_rows(here, slot, per_head.shape[0], angles, pairing)
        wide[rows] = here if matrix is None else mixed_rows(here, slot, per_head.shape[0], matrix)
        new[name] = wide.to(source.dtype)


def quantized_parameters(
    loaded: LoadedModel, spec: WeightQuantSpec, base: Mapping[str, Tensor | None]
) -> dict[str, Tensor | None]:
    """Every decoder linear weight fake-quantized, starting from `base` where it has the name.

    Experts kept in one tensor are matrices too, one an expert; routers stay, as quantized checkpoints leave them.
    """
    new = dict(base)
    linear = {
        id(m.weight)
        for layer in loaded.family.layers(loaded.model)
        for m in layer.modules()
        if isinstance(m, nn.Linear)
    }
    stacked = _stacked_experts(loaded)
    for name, parameter in loaded.model.named_parameters():
        source = base.get(name, parameter.data)
        if source is None:
            continue
        if id(parameter) in linear:
            new[name] = fake_quantize_weight(source, spec)
        elif id(parameter) in stacked:
            rows_first = source.mT if stacked[id(parameter)] else source  # (experts, out, in)
            rounded = torch.stack([fake_quantize_weight(w, spec) for w in rows_first])
            new[name] = (rounded.mT if stacked[id(parameter)] else rounded).contiguous()
    return new


def parameters_under(
    loaded: LoadedModel, scales: Scales | None, weights: WeightQuantSpec | None = None
) -> dict[str, Tensor | None]:
    """Parameters to run with, where they differ from the loaded: the checkpoint's own, then scaled, then rounded.

    None: the checkpoint has no such parameter, and what is applied brought one.
    """
    new = dict(loaded.originals)
    if scales is not None and not scales.is_identity:
        new |= scaled_parameters(loaded, scales)
    return new if weights is None else quantized_parameters(loaded, weights, new)


def _stacked_experts(loaded: LoadedModel) -> dict[int, bool]:
    """id of every parameter that holds the matrices of all experts -> whether it keeps them as (in, out)."""
    modules = [m for layer in loaded.family.layers(loaded.model) for m in layer.modules()]
    return {
        id(p): bool(m.is_transposed)
        for m in modules
        if hasattr(m, "is_transposed")  # set by transformers on every module of stacked experts
        for p in m.parameters(recurse=False)
        if p.ndim == 3
    }


def apply_scales(loaded: LoadedModel, scales: Scales, under: Any = None) -> None:
    """Put `scales` into the loaded model until `undo_scales`; what was applied before is undone first.

    Args:
        under: what they were made for, kept as `loaded.applied_under` for who asks later.
    """
    with loaded.lock:
        new = scaled_parameters(loaded, scales)  # from the originals; refused scales leave everything as it is
        undo_scales(loaded)
        loaded.originals = there(loaded.model, new)
        put(loaded.model, new)
        loaded.applied, loaded.applied_under = scales, under


def undo_scales(loaded: LoadedModel) -> None:
    """Restore the loaded weights bit for bit; without applied scales it does nothing."""
    with loaded.lock:
        put(loaded.model, loaded.originals)
        loaded.originals, loaded.applied, loaded.applied_under = {}, None, None
