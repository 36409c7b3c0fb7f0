"""How far an interpolation moves the logits of sampled queries and keys, as the long pass shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from qroar_core.diagnostics.measurement import Chunk, Measurement
from qroar_core.diagnostics.pressure.measure import LogitChangeMeter
from qroar_core.interpolations.frequencies import LayerGroupRope
from qroar_core.interpolations.pressure import attention_factor_slope, frequency_slope
from qroar_core.maths.distances import DrawnPairs, drawn_pairs
from qroar_core.maths.positions import Sampled


@dataclass(slots=True, eq=False)
class PressureRecorder:
    """The change of the logits of every layer that turns, over pairs drawn under the diagnosis' distance law."""

    measurement: Measurement
    turnings: Sequence[LayerGroupRope]
    meters: list[LogitChangeMeter | None] = field(init=False)
    slopes: dict[int, tuple[Tensor, float]] = field(default_factory=dict)  # d omega and d ln a by d ln s, by layer
    windows: dict[int, int | None] = field(default_factory=dict)  # sliding, by layer
    drawn: dict[int | None, tuple[DrawnPairs, Sampled]] = field(default_factory=dict)  # by sliding window

    def __post_init__(self) -> None:
        self.meters = [None] * self.measurement.geometry.n_layers
        spec = self.measurement.spec
        for turning in self.turnings:
            slope = frequency_slope(turning.at), attention_factor_slope(turning.at)
            self.slopes |= dict.fromkeys(turning.group.layers, slope)
            window = turning.group.window
            self.windows |= dict.fromkeys(turning.group.layers, window)
            if window not in self.drawn:
                drawn = drawn_pairs(self.measurement.length, spec.law, window, spec.seed)
                self.drawn[window] = drawn, Sampled(drawn.rows)

    def on_chunk(self, chunk: Chunk) -> None:
        """Count the sampled queries of this chunk; every key that they see is there."""
        tap = chunk.tap
        if tap.layer not in self.slopes:
            return
        drawn, rows = self.drawn[self.windows[tap.layer]]
        if self.meters[tap.layer] is None:
            self.meters[tap.layer] = self._meter(chunk, drawn)
        meter = self.meters[tap.layer]
        assert meter is not None
        stop = tap.start + tap.q.shape[1]
        here = rows.inside(tap.start, stop)
        if here.start < here.stop:
            meter.update(tap.q[:, rows.index(tap.start, stop, tap.q.device)], here.start, tap.k_seen)

    def _meter(self, chunk: Chunk, drawn: DrawnPairs) -> LogitChangeMeter:
        slope, factor_slope = self.slopes[chunk.tap.layer]
        spec = self.measurement.spec
        return LogitChangeMeter(
            slope,
            drawn,
            self.measurement.pair_band,
            scaling=chunk.tap.scaling,
            pairing=self.measurement.geometry.pairing,
            factor_slope=factor_slope,
            seed=hash((spec.seed, chunk.tap.layer)),
            draws=spec.null_draws,
        )
