"""Layer outputs at sampled positions: the reference's are kept, the quantized ones held against them."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from qroar_core.diagnostics.measurement import Measurement
from qroar_core.diagnostics.similarity.measure import SimilarityMeter
from qroar_core.maths.positions import PositionBins, Sampled
from qroar_core.models.stream import AttentionTap

HIDDEN_ROWS = 32  # sampled rows per position bin


def drawn_rows(bins: PositionBins, count: int, seed: int) -> Tensor:
    """Ascending positions, `count` a bin or all there are; position 0 is left out.

    A bin is cut into equal parts and one position drawn from each: evenly spaced ones could stand at the same place of
    every block of a cache that quantizes in blocks.
    """
    draws = torch.rand(bins.count, count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = []
    for first, stop, draw in zip(bins.edges(), bins.edges()[1:], draws.tolist()):
        first = max(first, 1)
        parts = min(count, stop - first)
        cuts = [first + i * (stop - first) // parts for i in range(parts + 1)] if parts > 0 else []
        found += [low + int(u * (high - low)) for low, high, u in zip(cuts, cuts[1:], draw)]
    return torch.tensor(found, dtype=torch.long)


@dataclass(slots=True, eq=False)
class HiddenRows:
    """Layer outputs at sampled positions: kept in the reference pass, compared in the quantized one."""

    measurement: Measurement
    seed: int
    rows: Sampled = field(init=False)
    kept: dict[int, Tensor] = field(default_factory=dict)  # layer -> (rows, hidden_size), made once for all chunks
    meter: SimilarityMeter | None = None  # set: compare instead of keep
    before: Tensor | None = None  # error of the layer just seen, which the next one inherits

    def __post_init__(self) -> None:
        self.rows = Sampled(drawn_rows(self.measurement.bins, HIDDEN_ROWS, self.seed))

    def on_attention(self, tap: AttentionTap) -> None:
        """Nothing to see."""

    def on_layer(self, layer: int, row: int, start: int, hidden: Tensor) -> None:
        """Keep or compare the sampled rows of this chunk."""
        stop = start + hidden.shape[0]
        picked = hidden[self.rows.index(start, stop, hidden.device)]
        here = self.rows.inside(start, stop)
        if self.meter is None:
            if layer not in self.kept:
                self.kept[layer] = picked.new_empty(len(self.rows.listed), picked.shape[1])
            self.kept[layer][here] = picked
            return
        reference = self.kept[layer][here]
        wide = torch.promote_types(picked.dtype, torch.float32)
        error = picked.to(wide) - reference.to(wide)
        if layer == 0:
            self.before = None
        self.meter.update(layer, self.rows.positions[here], reference, error, self.before)
        self.before = error
