"""Quantiles of K after RoPE along the long pass, and its ranges with tokens dealt to bins at random.

The ranges by position themselves come from the channel maps of the outliers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from qroar_core.diagnostics.dilation.measure import DealtRange, QuantilesByPosition
from qroar_core.diagnostics.measurement import Chunk, Measurement
from qroar_core.diagnostics.sample import answered_by


@dataclass(slots=True, eq=False)
class DilationRecorder:
    """Quantiles of |k| after RoPE of every layer, and the null of its range by position."""

    measurement: Measurement
    quantiles: list[QuantilesByPosition] = field(init=False)
    nulls: list[DealtRange] = field(init=False)

    def __post_init__(self) -> None:
        measurement, layers = self.measurement, range(self.measurement.geometry.n_layers)
        seed, draws = measurement.spec.seed, answered_by(measurement.spec)
        self.quantiles = [QuantilesByPosition(measurement.bins, measurement.channel_band) for _ in layers]
        self.nulls = [
            DealtRange(measurement.geometry.n_kv_heads, measurement.bins, measurement.channel_band, seed, draws)
            for _ in layers
        ]

    def on_chunk(self, chunk: Chunk) -> None:
        """Count K after RoPE."""
        for meter in (self.quantiles[chunk.tap.layer], self.nulls[chunk.tap.layer]):
            meter.update(chunk.tap.start, chunk.tap.k)
