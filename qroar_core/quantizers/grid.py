"""What a set of levels says about itself: a file of `quantizers/grids` is one of them.

Every quantizer here is  x^ = zero + step * clamp(round((x - zero) * inverse), low, high).
A chooser looks at the numbers that share one scale and returns that `Grid`. `step` and `zero` are what
the runtime stores, already rounded to its scale dtype; `inverse` is what it multiplies by before it
rounds, which for llama.cpp is the reciprocal of the step *before* storage (MLX divides by that step
instead). Scales are tiny beside the numbers they scale, so all care for zeros and storage happens on
them, and the hot loop of `fake_quantize.py` stays three elementwise operations.

torch is imported inside the functions that need it, so that the command line can list the sets without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    Rounder = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Storage:
    """Rounds a scale to the dtype the runtime keeps it in, and back; gradients pass straight through."""

    dtype: torch.dtype

    def __call__(self, scale: Tensor) -> Tensor:
        import torch

        if torch.promote_types(self.dtype, scale.dtype) == self.dtype:
            return scale  # wide enough to hold it
        stored = scale.detach().to(self.dtype).to(scale.dtype)
        return scale + (stored - scale.detach()) if scale.requires_grad else stored


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """One scale's levels; tensors broadcast against the numbers that share it."""

    step: Tensor  # as stored
    inverse: Tensor  # detached; 0 where the step vanishes, so that zeros stay zero
    rounder: Rounder  # in place; rounds to the codes
    low: float | None = None  # clamp of the codes, where it can bind
    high: float | None = None
    zero: Tensor | None = None  # as stored; x of code 0
    offset: Tensor | None = None  # zero before storage, where the runtime subtracts that one
    divisor: Tensor | None = None  # what the runtime divides by, where it does not multiply by `inverse`; nowhere 0
    spacing: Rounder | None = None  # between the two levels around each scaled number; None: 1, they are integers

    def scaled(self, x: Tensor) -> Tensor:
        """x in steps from the zero, before it is rounded; a fresh tensor."""
        offset = self.zero if self.offset is None else self.offset
        if offset is None:
            return x * self.inverse if self.divisor is None else x / self.divisor
        centred = x - offset
        return centred.mul_(self.inverse) if self.divisor is None else centred.div_(self.divisor)


@dataclass(frozen=True, slots=True)
class LevelSet:
    """One family of levels.

    Args:
        label: as menus call it.
        place: where it stands in menus; smaller comes first.
        grid: (numbers, dim of those that share a scale, bits, storage of the scale, a static absmax or None) -> Grid.
        largest_code: absmax / step of a static scale, by bits (vLLM's k_scale is a step).
        from_block: the scale comes from each block, never from a static absmax: `QuantizerSpec` refuses one scale for
            a whole tensor with it, so that `grid` is given none.
        floating: the levels are floats or a table, whose distance depends on the number: `Grid.spacing` says it.
        width: bits of a code, of a set that has one width alone; None: any from 2 to 8.
        stored: numbers kept with each set that shares a scale (2: a step and a zero).
        stored_bits: bits of each of them; None: those of the spec's scale dtype.
    """

    label: str
    place: int
    grid: Callable[[Tensor, int, int, Storage, Tensor | None], Grid]
    largest_code: Callable[[int], float]
    from_block: bool = False
    floating: bool = False
    width: int | None = None
    stored: int = 1
    stored_bits: int | None = None


def inverse_of(step: Tensor) -> Tensor:
    """1/step, and 0 where step is zero or below the normal range (its reciprocal would overflow)."""
    import torch

    step = step.detach()
    return torch.where(step.abs() < torch.finfo(step.dtype).tiny, 0.0, step.reciprocal())


def to_nearest(y: Tensor) -> Tensor:
    """In place, ties to even."""
    return y.round_()


def absmax_of(x: Tensor, dim: int, absmax: Tensor | None) -> Tensor:
    """The static one where there is one, else that of the numbers which share a scale."""
    return x.abs().amax(dim, keepdim=True) if absmax is None else absmax


def symmetric_code(bits: int) -> float:
    """qmax = 2^(bits-1) - 1."""
    return 2 ** (bits - 1) - 1
