"""Pairs of a query and a key drawn under a distance law: their weighted mean is the mean under the law.

Every (m, n) that a query sees has a mass that depends on its distance D = m - n alone: causal, every pair alike, so
P(D) ~ L - D; uniform, every distance alike and at one distance every pair alike, so each has 1 / (L - D).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qroar_core.specs import DistanceLaw

ROWS, KEYS = 128, 32  # sampled query rows, and keys of each; a context of up to ROWS tokens is counted whole


@dataclass(frozen=True, slots=True, eq=False)
class DrawnPairs:
    """Query rows and keys of each; the mean over them is sum_r row_weight_r sum_n key_weight_rn value_rn.

    rows: (R,) int64, ascending, one may stand twice. keys: (R, N) int64 positions, none after its row.
    row_weight: (R,) float64, sums to 1. key_weight: (R, N) float64, every row sums to 1; 0 where a row sees fewer keys.
    whole: every pair of the context is there, so that the mean is exact.
    """

    rows: Tensor
    keys: Tensor
    row_weight: Tensor
    key_weight: Tensor
    whole: bool

    def mean(self, by_row: Tensor) -> Tensor:
        """Mean under the law of a value that is already a weighted mean over each row's keys; (R, ...) -> (...)."""
        return torch.einsum("r,r...->...", self.row_weight, by_row)

    def error(self, by_row: Tensor) -> Tensor:
        """Standard error of `mean` from the spread between rows; 0 where every pair is counted.

        Rows are drawn from strata of equal mass, which makes the true error smaller than this.
        """
        if self.whole:
            return torch.zeros_like(by_row[0])
        return by_row.std(0) / len(by_row) ** 0.5


def drawn_pairs(
    length: int, law: DistanceLaw, window: int | None, seed: int, rows: int = ROWS, keys: int = KEYS
) -> DrawnPairs:
    """Pairs (m, n <= m) of a context of `length` tokens under `law`: all of them up to `rows` tokens, else a sample.

    A sample takes one row at random from each of `rows` strata of equal mass, and in the row one key from each of
    `keys` strata, or all its keys with their masses where there are no more.

    Args:
        window: newest keys a query sees, itself included, tokens; None or more than `length`: all.
        seed: of the draw.
    """
    reach = length if window is None else min(window, length)
    distance = torch.arange(reach)
    mass = torch.ones(reach).double() if law == "causal" else 1 / (length - distance).double()
    within = mass.cumsum(0)  # mass of the distances 0..D
    of_row = within[torch.arange(length).clamp_max(reach - 1)]
    whole = length <= rows
    maker = torch.Generator().manual_seed(seed)
    if whole:
        row, keys = torch.arange(length), length
        row_weight = of_row / of_row.sum()
    else:
        row = _stratified(of_row.cumsum(0), of_row.sum()[None], rows, maker)[0]
        row_weight = torch.full((rows,), 1 / rows).double()
    last = row.clamp_max(reach - 1)  # largest distance each row sees
    back = _stratified(within, within[last], keys, maker).minimum(last[:, None])
    weight = torch.full(back.shape, 1 / keys).double()
    every = torch.arange(keys).clamp_max(reach - 1)
    seen = torch.arange(keys) <= last[:, None]
    few = (last < keys)[:, None]
    back = torch.where(few, every.minimum(last[:, None]), back)
    weight = torch.where(few, (mass[every] / within[last][:, None]) * seen, weight)
    return DrawnPairs(row, row[:, None] - back, row_weight, weight, whole)


def _stratified(cumulated: Tensor, total: Tensor, count: int, maker: torch.Generator) -> Tensor:
    """One index from each of `count` strata of equal mass below each of `total`; (len(total), count), ascending."""
    at = (torch.arange(count) + torch.rand(len(total), count, generator=maker, dtype=torch.float64)) / count
    return torch.searchsorted(cumulated, at * total[:, None], right=True).clamp_max(len(cumulated) - 1)
