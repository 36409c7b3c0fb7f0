"""The step a quantizer rounds each value with, and which values it clips or rounds to zero.

They come from the grids that `fake_quantize.py` rounds to, on the sets that share a scale there. A uniform grid has
one step: the distance between its levels, as stored. A float grid (`e4m3`, `e5m2`) has none; its step here is the
local one, the distance between the two levels around the value.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from qroar_core.quantizers.fake_quantize import calibrated_coordinates, on_sets, rotation_of, storage_of, to_model_order
from qroar_core.quantizers.grids import GRIDS
from qroar_core.specs import QuantizerSpec

NEAR = 1e-4  # steps from zero that count as zero


def squared_step(x: Tensor, spec: QuantizerSpec, *, absmax: Tensor | None = None) -> Tensor:
    """Squared step of the quantizer at each value of x, on x's own channels.

    After a Hadamard rotation every channel's error is the same mixture of its block's errors, so each channel has
    the mean of the squared steps in its block. Zero where nothing is rounded: an all-zero set, the tokens of a
    group that is still open.

    Args:
        x, absmax: as of `fake_quantize`.
    Returns:
        Shape of x, float32, or float64 where x is.
    """
    store = storage_of(x, spec)

    def steps(values: Tensor, dim: int, static: Tensor | None) -> Tensor:
        grid = GRIDS[spec.levels].grid(values, dim, spec.bits, store, static)
        if grid.spacing is not None:
            return (grid.spacing(grid.scaled(values)) * grid.step).square_()
        return torch.zeros_like(values) + grid.step.square()  # a static step may be a number on the CPU

    work = x if x.dtype == torch.float64 else x.float()
    with torch.no_grad():
        square = on_sets(calibrated_coordinates(work, spec), spec, absmax, steps, torch.zeros_like)
        if spec.rotation == "hadamard":
            blocks = square.unflatten(-1, (-1, rotation_of(x, spec)))
            square = blocks.mean(-1, keepdim=True).expand_as(blocks).flatten(-2)
        return to_model_order(square, spec)


class Ends(NamedTuple):
    """What became of each value on the axes that are rounded; bool, shape of x."""

    nonzero: Tensor  # before rounding
    clipped: Tensor  # beyond the last level by more than half a step
    zeroed: Tensor  # not zero, and rounded to zero


def ends_of(x: Tensor, spec: QuantizerSpec, *, absmax: Tensor | None = None) -> Ends:
    """Which values are clipped and which become zero, on the quantizer's own axes (after any rotation).

    Args:
        x, absmax: as of `fake_quantize`.
    """
    store = storage_of(x, spec)

    def flags(values: Tensor, dim: int, static: Tensor | None) -> Tensor:
        grid = GRIDS[spec.levels].grid(values, dim, spec.bits, store, static)
        scaled = grid.scaled(values)
        codes = grid.rounder(scaled.clone())
        beyond = torch.zeros_like(values, dtype=torch.bool)
        if grid.low is not None and grid.high is not None:
            if grid.spacing is not None:
                above, below = (grid.spacing(torch.full_like(scaled, end)) / 2 for end in (grid.high, grid.low))
                beyond = (scaled > grid.high + above) | (scaled < grid.low - below)
            else:
                beyond = (codes < grid.low) | (codes > grid.high)
            codes = codes.clamp_(grid.low, grid.high)
        rounded = codes * grid.step
        if grid.zero is None:
            zero = rounded == 0
        else:  # a grid with zero on it meets it but for the arithmetic
            zero = (rounded + grid.zero).abs() <= NEAR * grid.step.abs()
        return beyond.byte() + 2 * ((values != 0) & zero).byte()

    with torch.no_grad():
        axes = calibrated_coordinates(x if x.dtype == torch.float64 else x.float(), spec)
        found = on_sets(axes, spec, absmax, flags, lambda rest: torch.zeros_like(rest, dtype=torch.uint8))
        return Ends(axes != 0, (found & 1) > 0, found > 1)
