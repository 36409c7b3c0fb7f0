"""Fake quantization of q, k and v vectors: what a runtime's cache gives back, in floating point.

One device-independent reference for every quantizer the project names. Order of work, as in the
runtimes: channels into the runtime's order, Hadamard rotation, cut into the sets that share a scale,
round (`quantizers/grids`), and all of it undone. H is orthonormal, so rotating back after the rounding gives
the same q.k as a runtime that leaves k rotated and rotates q. `fake_quantize` writes in place behind
one temporary; `fake_quantize_ste` is the same numbers with a gradient, for the search.
Channel order `interleaved` assumes half pairing over the whole head: (i, i + d/2) -> (2i, 2i + 1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from qroar_core.errors import BadSpec
from qroar_core.quantizers.grid import Grid, Storage
from qroar_core.quantizers.grids import GRIDS
from qroar_core.quantizers.hadamard import hadamard, hadamard_block
from qroar_core.specs import QuantizerSpec

OnSet = Callable[[Tensor, int, Tensor | None], Tensor]
OnOpen = Callable[[Tensor], Tensor]


def fake_quantize(
    x: Tensor, spec: QuantizerSpec, *, absmax: Tensor | None = None, clip: Tensor | None = None
) -> Tensor:
    """Round x to the levels `spec` can store and give the values back.

    x^ = zero + step * clamp(round((x - zero) / step), low, high), one step per token, block of
    channels, channel and group of tokens, or tensor. All-zero sets stay zero. Per channel, tokens
    after the last complete group come back untouched. `spec.residual` and `spec.before_rope` say
    *when* a stream calls this and are not looked at here.

    Args:
        x: shape (..., tokens, head_dim); any floating dtype, not written to.
        spec: the quantizer.
        absmax: calibrated largest magnitude, for scale `tensor` only; 0-dim or broadcastable to x,
            in the coordinates that are rounded (after any rotation).
        clip: the share of its absmax that a set's range keeps, in (0, 1], for symmetric integers with a scale per
            token or block only; 0-dim, or (heads, 1, 1) for x (..., heads, tokens, head_dim). What lies beyond
            saturates.
    Returns:
        Same shape and dtype as x; the arithmetic is float32, or float64 where x is.
    Raises:
        BadSpec: a block that does not divide head_dim, a head that can't be rotated or reordered,
            scale `tensor` with neither absmax nor static_scale, absmax with another scale, or clip with a
            quantizer that takes none.
    Source: per levels family, see quantizers/grids.
    """
    with torch.no_grad():
        return _quantize(x, spec, absmax, clip, straight_through=False)


def fake_quantize_ste(
    x: Tensor, spec: QuantizerSpec, *, absmax: Tensor | None = None, clip: Tensor | None = None
) -> Tensor:
    """`fake_quantize` with the straight-through gradient of x^ = zero + step * round((x - zero)/step).

    Rounding has derivative 1 inside the clamp and 0 outside, so dx^/dx = 1 and
    dx^/dstep = round(u) - u (the clamped code outside), u = (x - zero)/step; the step's gradient goes
    on to the elements that set it (absmax, extreme, min and max). Codes, fp16 storage: straight through.

    Args, Returns, Raises: as `fake_quantize`.
    Source: LSQ, arXiv 1902.08153, equations 2 and 3.
    """
    return _quantize(x, spec, absmax, clip, straight_through=torch.is_grad_enabled() and x.requires_grad)


def calibrated_coordinates(x: Tensor, spec: QuantizerSpec) -> Tensor:
    """x on the axes that `spec` rounds (reordered and rotated): what an absmax is calibrated on."""
    return _to_axes(x, spec)


def _quantize(
    x: Tensor, spec: QuantizerSpec, absmax: Tensor | None, clip: Tensor | None, straight_through: bool
) -> Tensor:
    if clip is not None and not spec.takes_clip:
        raise BadSpec("ranges are clipped of symmetric integers with a scale per token or block only")
    work = x if x.dtype == torch.float64 else x.float()
    store = storage_of(x, spec)

    def act(values: Tensor, dim: int, static: Tensor | None) -> Tensor:
        if clip is not None:
            share = clip.to(values)
            static = values.abs().amax(dim, keepdim=True) * (share[..., None] if spec.scale == "block" else share)
        return _round(values, dim, spec, store, static, straight_through)

    rounded = on_sets(_to_axes(work, spec), spec, absmax, act, torch.clone)
    return _from_axes(rounded, spec).to(x.dtype)


def storage_of(x: Tensor, spec: QuantizerSpec) -> Storage:
    """What scales over x are stored in."""
    stored_as = x.dtype if spec.scale_dtype == "input" else getattr(torch, spec.scale_dtype)
    work = x.dtype if x.dtype == torch.float64 else torch.float32
    return Storage(work if stored_as.itemsize >= 4 else stored_as)  # float32: not rounded


def on_sets(x: Tensor, spec: QuantizerSpec, absmax: Tensor | None, act: OnSet, unrounded: OnOpen) -> Tensor:
    """`act` on the sets of values that share a scale, put together again.

    Args:
        x: on the axes that are rounded, (..., tokens, head_dim).
        absmax: as of `fake_quantize`.
        act: gets the values, the dimension that a set runs along, and the static absmax, if there is one.
        unrounded: what stands for the tokens of a group of tokens that is still open.
    """
    if absmax is not None and spec.scale != "tensor":
        raise BadSpec(f"a calibrated absmax goes with scale tensor, not {spec.scale}")
    if spec.scale == "channel":
        return _per_channel(x, spec, act, unrounded)
    if spec.scale == "block":
        blocks = x.unflatten(-1, (-1, _block_of(x, spec)))  # (..., tokens, blocks, group_size)
        return act(blocks, -1, None).flatten(-2)
    return act(x, -1, _static_absmax(x, spec, absmax) if spec.scale == "tensor" else None)


def _block_of(x: Tensor, spec: QuantizerSpec) -> int:
    size = spec.group_size or 0
    if size < 1 or x.shape[-1] % size:
        raise BadSpec(
            f"blocks of {size} channels do not divide head_dim {x.shape[-1]}",
            do="choose a group size that does, or scale token",
        )
    return size


def _static_absmax(x: Tensor, spec: QuantizerSpec, absmax: Tensor | None) -> Tensor:
    if spec.static_scale is not None:
        return torch.tensor(spec.static_scale * GRIDS[spec.levels].largest_code(spec.bits), dtype=x.dtype)
    if absmax is None:
        raise BadSpec(
            "scale tensor needs a calibrated absmax",
            do="calibrate it, or give static_scale, or use scale token",
        )
    alone = absmax.ndim == 0 and absmax.device.type == "cpu"  # any device takes it as a number, without a copy
    if alone and GRIDS[spec.levels].floating:
        return absmax  # float64 keeps the bits of a scale that a checkpoint brings
    return absmax.to(device=None if alone else x.device, dtype=x.dtype)


def _per_channel(x: Tensor, spec: QuantizerSpec, act: OnSet, unrounded: OnOpen) -> Tensor:
    size, tokens = spec.group_size or 1, x.shape[-2]
    whole = tokens - tokens % size
    if not whole:
        return unrounded(x)
    groups = x[..., :whole, :].unflatten(-2, (-1, size))  # (..., groups, group_size, head_dim)
    done = act(groups, -2, None).flatten(-3, -2)
    return done if whole == tokens else torch.cat([done, unrounded(x[..., whole:, :])], dim=-2)


def _to_axes(x: Tensor, spec: QuantizerSpec) -> Tensor:
    """Into the runtime's channel order, then rotated."""
    if spec.channel_order == "interleaved":
        if x.shape[-1] % 2:
            raise BadSpec(f"head_dim {x.shape[-1]} is odd: it has no rotated pairs to interleave")
        x = x.unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2)  # (..., 2, d/2) -> (..., d/2, 2)
    return hadamard(x, rotation_of(x, spec)) if spec.rotation == "hadamard" else x


def _from_axes(x: Tensor, spec: QuantizerSpec) -> Tensor:
    """The inverse of `_to_axes`."""
    return to_model_order(hadamard(x, rotation_of(x, spec)) if spec.rotation == "hadamard" else x, spec)


def to_model_order(x: Tensor, spec: QuantizerSpec) -> Tensor:
    """Channels from the runtime's order back into the model's."""
    if spec.channel_order == "interleaved":
        x = x.unflatten(-1, (-1, 2)).transpose(-1, -2).flatten(-2)  # (..., d/2, 2) -> (..., 2, d/2)
    return x


def rotation_of(x: Tensor, spec: QuantizerSpec) -> int:
    """Width of the Hadamard blocks that a head of x is rotated in."""
    return hadamard_block(x.shape[-1], spec.rotation_block, spec.rotation_least)


def _round(
    x: Tensor, dim: int, spec: QuantizerSpec, store: Storage, absmax: Tensor | None, straight_through: bool
) -> Tensor:
    """Round the sets that run along `dim`; a fresh tensor."""
    if x.numel() == 0:
        return x.clone()
    grid = GRIDS[spec.levels].grid(x, dim, spec.bits, store, absmax)
    if straight_through:
        offset = grid.zero if grid.offset is None else grid.offset
        centred = x if offset is None else x - offset
        snapped = _StraightThrough.apply(centred, grid.step, grid, GRIDS[spec.levels].floating)
        return snapped if grid.zero is None else snapped + grid.zero
    codes = _codes(grid.scaled(x), grid).mul_(grid.step)
    return codes if grid.zero is None else codes.add_(grid.zero)


def _codes(scaled: Tensor, grid: Grid) -> Tensor:
    """Round and clamp in place."""
    codes = grid.rounder(scaled)
    return codes if grid.low is None else codes.clamp_(grid.low, grid.high)


class _StraightThrough(torch.autograd.Function):
    """step * clamp(round(x / step)) in one node: two temporaries forward, two passes back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, grid: Grid, is_float: bool) -> Tensor:
        scaled = x * grid.inverse if grid.divisor is None else x / grid.divisor
        codes = _codes(scaled.clone(), grid)
        inside = None
        if grid.low is not None and grid.high is not None:
            # integers: beyond the last level's own cell; floats saturate at their largest number
            margin = 0.0 if is_float else 0.5
            inside = (scaled >= grid.low - margin) & (scaled <= grid.high + margin)
            if inside.device.type == "cpu" and bool(inside.all()):  # a device would be waited for
                inside = None
        residue = torch.sub(codes, scaled if inside is None else scaled.mul_(inside), out=scaled)
        ctx.save_for_backward(residue, inside)
        ctx.step_shape = step.shape
        return codes.mul_(grid.step)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        (grad,) = grads
        residue, inside = ctx.saved_tensors
        to_x = grad if inside is None else grad * inside
        to_step = (grad * residue).sum_to_size(ctx.step_shape) if ctx.needs_input_grad[1] else None
        return to_x, to_step, None, None
