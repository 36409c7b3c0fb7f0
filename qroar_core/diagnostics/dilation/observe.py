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

    problem: Measurement
    quantiles: list[QuantilesByPosition] = field(init=False)
    nulls: list[DealtRange] = field(init=False)

    def __post_init__(self) -> None:
        problem, layers = self.problem, range(self.problem.geometry.n_layers)
        seed, draws = problem.spec.seed, answered_by(problem.spec)
        self.quantiles = [QuantilesByPosition(problem.bins, problem.channel_band) for _ in layers]
        self.nulls = [
            DealtRange(problem.geometry.n_kv_heads, problem.bins, problem.channel_band, seed, draws) for _ in layers
        ]

    def on_chunk(self, chunk: Chunk) -> None:
        """Count K after RoPE."""
        for meter in (self.quantiles[chunk.tap.layer], self.nulls[chunk.tap.layer]):
            meter.update(chunk.tap.start, chunk.tap.k)
