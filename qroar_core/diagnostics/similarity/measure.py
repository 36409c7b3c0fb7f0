"""Hidden-state similarity by position, reference against quantized, and which layer the error comes from.

With x a layer's output of the reference and e the quantized one minus it, a row's relative error is |e|^2 / |x|^2.
Relative errors are averaged over rows, and only then turned into decibels: a mean of decibels would be ruled by rows
without any error. Each row is held against its own length, since a few rows (attention sinks) are a thousand times as
long as the others.

Between two layers e is carried by the residual stream: with e_in the error that enters a layer,

    e = e_in + added,    |e|^2 = |e_in|^2 + |added|^2 + 2 <e_in, added>,

inherited, added, and a cross term that is zero on average where what a layer adds does not know what it inherits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from qroar_core.diagnostics.similarity.blind import random_direction_cosine
from qroar_core.diagnostics.similarity.result import EXACT_DB
from qroar_core.maths.meters import accumulator_device, onto
from qroar_core.maths.positions import PositionBins

FIELDS = ("position", "cosine", "energy", "error", "inherited", "added", "cross")


@dataclass(frozen=True, slots=True, eq=False)
class Similarity:
    """By layer and position bin; CPU float64, (layers, bins), NaN in empty bins.

    cosine: mean over rows of <x, y> / (|x| |y|); cosine_null: the same of errors as large at a random direction, and
        cosine_null_se: how far the mean over a bin's rows is from it by chance.
    error: mean over rows of |x - y|^2 / |x|^2, and error_se its standard error, NaN for a single row. pooled: sum
        |x - y|^2 / sum |x|^2, ruled by the longest rows.
    inherited, added, cross: means over rows, each over |x|^2; they sum to `error`.
    null_se: of `error` around `overall` (layers,), its mean over all rows of a layer, were rows dealt to bins at
        random, as many to each as it has.
    layer_parts: (3, layers), the three parts over all rows. cross_null_se: (layers,) of the cross term around zero,
        were the sign of what the layer adds drawn for each row. share: (layers,) added / (added + inherited), and
        share_se its standard error by the delta method over rows.
    """

    cosine: Tensor
    cosine_null: Tensor
    cosine_null_se: Tensor
    error: Tensor
    error_se: Tensor
    pooled: Tensor
    inherited: Tensor
    added: Tensor
    cross: Tensor
    overall: Tensor
    null_se: Tensor
    layer_parts: Tensor
    cross_null_se: Tensor
    share: Tensor
    share_se: Tensor
    rows: int


def decibels(relative: Tensor) -> Tensor:
    """SQNR of a relative error energy, at most EXACT_DB, also of less than no error; NaN stays NaN."""
    return (-10 * relative.clamp(min=0).log10()).clamp(max=EXACT_DB)


class SimilarityMeter:
    """Keeps a few numbers a sampled row and layer, so that nothing grows with the context."""

    def __init__(self, n_layers: int, bins: PositionBins) -> None:
        self.bins = bins
        self.hidden = 2  # channels of a row
        self.tables: list[list[Tensor]] = [[] for _ in range(n_layers)]  # (rows, FIELDS)

    def update(
        self, layer: int, positions: Tensor, reference: Tensor, error: Tensor, before: Tensor | None = None
    ) -> None:
        """Add a layer's outputs at `positions` (rows,).

        Args:
            reference: x, (rows, hidden). error: quantized minus reference, in fp32 or wider.
            before: the error that enters the layer; None: it enters without.
        A zero vector has cosine 1 with another zero and 0 with anything else.
        """
        x, e = reference.detach().to(error.dtype), error.detach()
        self.hidden = x.shape[-1]
        entering = torch.zeros_like(e) if before is None else before.detach().to(e)
        y, added = x + e, e - entering
        place = accumulator_device(x.device)
        dot, energy, other, size, inherited, own, cross = (
            (a * b).sum(-1).to(place, torch.float64)
            for a, b in ((x, y), (x, x), (y, y), (e, e), (entering, entering), (added, added), (2 * entering, added))
        )
        product = (energy * other).sqrt()
        cosine = torch.where(product > 0, dot / product, (energy == other).double())
        at = onto(positions, place, torch.float64)
        self.tables[layer].append(torch.stack([at, cosine, energy, size, inherited, own, cross], 1))

    def result(self) -> Similarity:
        """Similarities so far."""
        layers = [
            torch.cat(tables).cpu() if tables else torch.zeros(0, len(FIELDS), dtype=torch.float64)
            for tables in self.tables
        ]
        found = [self._layer(table) for table in layers]
        columns = {name: torch.stack([f[name] for f in found]) for name in found[0]}
        parts = columns.pop("layer_parts").T
        return Similarity(**columns, layer_parts=parts, rows=max(len(t) for t in layers))

    def _layer(self, table: Tensor) -> dict[str, Tensor]:
        row = dict(zip(FIELDS, table.T, strict=True))
        energy = row["energy"]
        relative = {
            name: torch.where(row[name] == 0, 0.0, row[name] / energy)
            for name in ("error", "inherited", "added", "cross")
        }
        bins = torch.tensor([self.bins.of(int(p)) for p in row["position"].tolist()], dtype=torch.long)
        cells = [bins == p for p in range(self.bins.count)]

        def by_bin(x: Tensor) -> Tensor:
            return torch.stack([x[cell].mean() for cell in cells])

        n = torch.stack([cell.sum() for cell in cells]).double()
        blind, chance = random_direction_cosine((row["error"] / energy).nan_to_num(0.0, torch.inf).sqrt(), self.hidden)
        error, count = relative["error"], float(len(table))
        spread = error.var(correction=0) if count else error.new_tensor(math.nan)
        inherited, added, cross = relative["inherited"], relative["added"], relative["cross"]
        share = added.sum() / (added + inherited).sum()
        rest = added - share * (added + inherited)
        return {
            "cosine": by_bin(row["cosine"]),
            "cosine_null": by_bin(blind),
            "cosine_null_se": (by_bin(chance) / n).sqrt(),
            "error": by_bin(error),
            "error_se": torch.stack([_standard_error(error[cell]) for cell in cells]),
            "pooled": torch.stack([row["error"][cell].sum() / energy[cell].sum() for cell in cells]),
            "inherited": by_bin(inherited),
            "added": by_bin(added),
            "cross": by_bin(cross),
            "overall": error.mean(),
            # of n values drawn from `count` without replacement
            "null_se": (spread / n * (count - n) / max(count - 1, 1.0)).sqrt(),
            "layer_parts": torch.stack([inherited.mean(), added.mean(), cross.mean()]),
            "cross_null_se": cross.square().sum().sqrt() / count if count else error.new_tensor(math.nan),
            "share": share,
            "share_se": _standard_error(rest) / (added + inherited).mean(),
        }


def _standard_error(x: Tensor) -> Tensor:
    """Of the mean over rows, NaN for fewer than two."""
    return x.std() / math.sqrt(len(x)) if len(x) > 1 else x.new_tensor(math.nan)
