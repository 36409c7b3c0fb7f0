"""Amplitude and phase errors of K along the long pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from qroar_core.diagnostics.key_recorder import KeyRecorder, blind_meters
from qroar_core.diagnostics.measurement import KeysRead, Measurement
from qroar_core.diagnostics.pair_error.measure import PairErrorMeter


@dataclass(slots=True, eq=False)
class PairErrorRecorder(KeyRecorder):
    """Every layer's quantized K against its own."""

    measurement: Measurement
    meters: list[PairErrorMeter] = field(init=False)

    def __post_init__(self) -> None:
        geo, measurement = self.measurement.geometry, self.measurement
        meter = partial(PairErrorMeter, measurement.pair_band, geo.pairing, measurement.bins)
        self.meters = blind_meters(measurement, geo.n_kv_heads, meter)

    def on_keys(self, keys: KeysRead) -> None:
        """Book these keys' errors."""
        self.meters[keys.layer].update(keys.start, keys.k, keys.k_hat)
