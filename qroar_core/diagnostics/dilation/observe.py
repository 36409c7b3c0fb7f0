"""Quantiles of K after RoPE along the long pass; the ranges come from the channel maps of the outliers."""

from __future__ import annotations

from dataclasses import dataclass, field

from qroar_core.diagnostics.dilation.measure import QuantilesByPosition
from qroar_core.diagnostics.frame import Chunk, Frame

STRIDE = 4  # every fourth token is plenty for quantiles of a bin


@dataclass(slots=True, eq=False)
class DilationRecorder:
    """Quantiles of |k| after RoPE of every layer."""

    frame: Frame
    quantiles: list[QuantilesByPosition] = field(init=False)

    def __post_init__(self) -> None:
        frame = self.frame
        self.quantiles = [QuantilesByPosition(frame.bins, frame.channel_band, stride=STRIDE)
                          for _ in range(frame.geometry.n_layers)]  # fmt: skip

    def on_chunk(self, chunk: Chunk) -> None:
        """Count K after RoPE."""
        self.quantiles[chunk.tap.layer].update(chunk.tap.start, chunk.tap.k)
