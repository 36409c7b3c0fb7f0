"""Layer outputs at sampled positions: the reference's are kept, the quantized ones held against them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby

import torch
from torch import Tensor

from qroar_core.diagnostics.frame import Frame
from qroar_core.diagnostics.similarity.measure import SimilarityMeter
from qroar_core.maths.positions import Sampled
from qroar_core.models.stream import AttentionTap

HIDDEN_ROWS = 8  # sampled rows per position bin


@dataclass(slots=True, eq=False)
class HiddenRows:
    """Layer outputs at sampled positions: kept in the reference pass, compared in the quantized one."""

    frame: Frame
    rows: Sampled = field(init=False)
    kept: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    meter: SimilarityMeter | None = None  # set: compare instead of keep

    def __post_init__(self) -> None:
        count = min(self.frame.length, HIDDEN_ROWS * self.frame.bins.count)
        self.rows = Sampled(torch.linspace(0, self.frame.length - 1, count).round().long().unique())

    def on_attention(self, tap: AttentionTap) -> None:
        """Nothing to see."""

    def on_layer(self, layer: int, row: int, start: int, hidden: Tensor) -> None:
        """Keep or compare the sampled rows of this chunk."""
        stop = start + hidden.shape[0]
        picked = hidden[self.rows.index(start, stop, hidden.device)]
        if self.meter is None:
            self.kept[layer, start] = picked
            return
        kept, edges, first = self.kept[layer, start], self.frame.bins.edges(), 0
        for p, rows in groupby(self.rows.listed[self.rows.inside(start, stop)], self.frame.bins.of):
            end = first + len(list(rows))  # rows of one bin together; they are fewer than its tokens
            self.meter.update(layer, edges[p], kept[first:end], picked[first:end])
            first = end
