"""Channels of a head that turn alike, and the matrices that commute with their turning (docs/method.md section 4).

k -> M k with q -> M^-T q leaves every logit as it is, at every position, where M commutes with RoPE: it may mix pairs
of equal frequency, each pair one complex number, by any invertible complex matrix; channels that do not turn by any
invertible real one. A matrix is written here as real numbers on the group's channels: first coordinates of the pairs,
then second ones, then channels past rotary_dim. A complex A + jB is then [[A, -B], [B, A]].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class ChannelGroup:
    """RoPE pairs `first` to `last` of a head, which share one frequency; both included.

    Args:
        still: they do not turn at all.
        rest: channels past rotary_dim, which never turn; only where `still` and there are no pairs.
    """

    first: int
    last: int
    still: bool = False
    rest: int = 0

    @property
    def pairs(self) -> int:
        """How many pairs."""
        return self.last - self.first + 1

    @property
    def size(self) -> int:
        """How many channels."""
        return 2 * self.pairs + self.rest

    @property
    def numbers(self) -> int:
        """How many real numbers its matrix has."""
        return self.size**2 if self.still else 2 * self.pairs**2

    def channels(self, rotary_dim: int, pairing: Literal["half", "interleaved"]) -> Tensor:
        """Its channels of a head in the order of its matrix; int64, (size,)."""
        pair = torch.arange(self.first, self.last + 1)
        a, b = (pair, pair + rotary_dim // 2) if pairing == "half" else (2 * pair, 2 * pair + 1)
        return torch.cat((a, b, torch.arange(rotary_dim, rotary_dim + self.rest)))

    def matrix(self, numbers: Tensor) -> Tensor:
        """M = 1 + X of X's numbers (..., numbers), as real numbers (..., size, size)."""
        one = torch.eye(self.size, dtype=numbers.dtype, device=numbers.device)
        if self.still:
            return one + numbers.unflatten(-1, (self.size, self.size))
        real, imaginary = numbers.unflatten(-1, (2, self.pairs, self.pairs)).unbind(-3)
        upper, lower = torch.cat((real, -imaginary), -1), torch.cat((imaginary, real), -1)
        return one + torch.cat((upper, lower), -2)

    def numbers_of(self, matrix: Tensor) -> Tensor:
        """Inverse of `matrix`: (..., size, size) -> (..., numbers)."""
        beyond = matrix - torch.eye(self.size, dtype=matrix.dtype, device=matrix.device)
        if self.still:
            return beyond.flatten(-2)
        real, imaginary = beyond[..., : self.pairs, : self.pairs], beyond[..., self.pairs :, : self.pairs]
        return torch.stack((real, imaginary), -3).flatten(-3)

    def commutes(self, matrix: Tensor) -> bool:
        """True where a matrix (..., size, size) commutes with the group's turning: any does where nothing turns."""
        n = self.pairs
        real = torch.equal(matrix[..., :n, :n], matrix[..., n:, n:])
        return self.still or (real and torch.equal(matrix[..., :n, n:], -matrix[..., n:, :n]))


def numbers_in(groups: tuple[ChannelGroup, ...]) -> int:
    """How many real numbers the matrices of all groups have."""
    return sum(group.numbers for group in groups)


def whole_head(
    groups: tuple[ChannelGroup, ...],
    matrices: tuple[Tensor, ...],
    head_dim: int,
    rotary_dim: int,
    pairing: Literal["half", "interleaved"],
) -> Tensor:
    """Matrices (..., size, size) of all groups as one, (..., head_dim, head_dim), 1 on all other channels."""
    like = matrices[0]
    out = torch.eye(head_dim, dtype=like.dtype, device=like.device).expand(*like.shape[:-2], -1, -1).clone()
    for group, matrix in zip(groups, matrices, strict=True):
        at = group.channels(rotary_dim, pairing).to(like.device)
        out[..., at[:, None], at[None, :]] = matrix
    return out
