"""Logit noise: of each layer's own q and k in the long pass, or through the whole model in two passes."""

from __future__ import annotations

from dataclasses import dataclass, field

from qroar_core.diagnostics.logit_noise.measure import KEY_BLOCK, LogitNoiseMeter
from qroar_core.diagnostics.measurement import Chunk, Measurement, Rounding
from qroar_core.diagnostics.quantized_pass import LayerPair
from qroar_core.maths.positions import Sampled


@dataclass(slots=True, eq=False)
class LocalNoise:
    """Each layer's own q and k, rounded: errors of earlier layers are not in it."""

    measurement: Measurement
    rounding: Rounding
    rows: Sampled
    meters: list[LogitNoiseMeter | None] = field(init=False)

    def __post_init__(self) -> None:
        self.meters = [None] * self.measurement.geometry.n_layers

    def on_chunk(self, chunk: Chunk) -> None:
        """Once all keys are there, count the sampled queries against every key that they see."""
        tap, q, rounding = chunk.tap, chunk.sampled_q, chunk.rounding
        if q is None:
            return
        meter = LogitNoiseMeter(self.measurement.channel_band, self.measurement.length, tap.scaling, tap.rule)
        q_hat = None if rounding.quant.qk is None else rounding.q(q, tap.layer)
        block = rounding.block
        meter.update(
            q,
            self.rows.positions,
            tap.k_seen,
            lambda a, b: rounding.k(tap.k_seen[:, a:b], a, tap.layer),
            q_hat,
            key_block=-(-KEY_BLOCK // block) * block,
            cache_block=block,
            exact_keys=None if q_hat is None else lambda a, b: rounding.exact_k(tap.k_seen[:, a:b], tap.layer),
        )
        self.meters[tap.layer] = meter


@dataclass(slots=True, eq=False)
class PropagatedNoise:
    """Logit noise through the whole model: the reference's q and K against those of the quantized pass."""

    measurement: Measurement
    rows: Sampled
    meters: list[LogitNoiseMeter | None] = field(init=False)

    def __post_init__(self) -> None:
        self.meters = [None] * self.measurement.geometry.n_layers

    def on_layer_pair(self, pair: LayerPair) -> None:
        """Count the sampled queries of one layer against every key that they see."""
        meter = LogitNoiseMeter(self.measurement.channel_band, self.measurement.length, pair.tap.scaling, pair.tap.rule)
        meter.update(
            pair.q, self.rows.positions, pair.k, pair.rounded, pair.q_hat, cache_block=pair.block, exact_keys=pair.exact
        )
        self.meters[pair.tap.layer] = meter
