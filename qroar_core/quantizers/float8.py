"""Levels that are the numbers of a float format of torch, of 8 or of 16 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qroar_core.quantizers.grid import Grid, LevelSet, Storage, absmax_of, inverse_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def level_set(label: str, dtype_name: str, place: int, width: int = 8) -> LevelSet:
    """The set of all finite numbers of `torch.<dtype_name>`, which has `width` bits."""

    def dtype() -> torch.dtype:
        import torch

        return getattr(torch, dtype_name)

    def largest(bits: int) -> float:
        import torch

        return float(torch.finfo(dtype()).max)

    def spacing(scaled: Tensor) -> Tensor:
        """Between the two numbers around each of `scaled`; of the outermost ones beyond them."""
        import torch

        info = torch.finfo(dtype())
        size = scaled.abs().clamp(info.smallest_normal, info.max)
        exponent = torch.frexp(size).exponent - 1  # floor(log2(size)): frexp gives a fraction from 1/2 to 1
        return torch.ldexp(torch.full_like(size, info.eps), exponent)

    def grid(x: Tensor, dim: int, bits: int, store: Storage, absmax: Tensor | None) -> Grid:
        import torch

        most, kind = largest(bits), dtype()

        def rounder(y: Tensor) -> Tensor:  # saturates, as runtimes do; a bare cast gives inf or NaN
            return y.copy_(y.clamp(-most, most).to(kind))

        step = store(absmax_of(x, dim, absmax) / most).to(x.dtype)  # a static absmax may be wider, to keep its scale
        divisor = None if absmax is None else torch.where(step == 0, 1.0, step)  # runtimes divide by a fixed scale
        return Grid(step, inverse_of(step), rounder, -most, most, spacing=spacing, divisor=divisor)

    return LevelSet(label, place, grid, largest, floating=True, width=width)
