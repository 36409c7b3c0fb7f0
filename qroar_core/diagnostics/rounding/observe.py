"""K, and q where it is quantized, before against after quantization along the long pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from torch import Tensor

from qroar_core.diagnostics.key_recorder import KeyRecorder, blind_meters
from qroar_core.diagnostics.measurement import Chunk, KeysRead, Measurement, Rounding
from qroar_core.diagnostics.quantized_pass import LayerPair
from qroar_core.diagnostics.rounding.measure import RoundingMeter


@dataclass(slots=True, eq=False)
class RoundingRecorder(KeyRecorder):
    """Every layer's quantized K, and q, against its own."""

    measurement: Measurement
    rounds_q: bool  # whether q changes
    propagates: bool = False  # whether a quantized pass brings q and K
    k: list[RoundingMeter] = field(init=False)
    q: list[RoundingMeter] = field(init=False)  # empty where q does not change

    def __post_init__(self) -> None:
        geo = self.measurement.geometry
        self.k = self._meters(geo.n_kv_heads)
        self.q = self._meters(geo.n_heads) if self.rounds_q else []

    def _meters(self, heads: int) -> list[RoundingMeter]:
        geo, measurement = self.measurement.geometry, self.measurement
        return blind_meters(
            measurement, heads, partial(RoundingMeter, geo.n_kv_heads, measurement.channel_band, geo.pairing)
        )

    def on_chunk(self, chunk: Chunk) -> None:
        """Book this chunk's errors."""
        tap, rounding = chunk.tap, chunk.rounding
        KeyRecorder.on_chunk(self, chunk)
        if self.q:
            self.q[tap.layer].update(tap.start, tap.q, rounding.q(tap.q, tap.layer))
            self.on_queries(tap.layer, tap.q, rounding)

    def on_queries(self, layer: int, q: Tensor, rounding: Rounding) -> None:
        """Book what becomes of every query's values at the grid's ends, where a quantizer rounds q itself."""
        ends = rounding.ends(q, layer, "q")
        if ends is not None:
            self.q[layer].count_ends(ends)

    def on_layer_pair(self, pair: LayerPair) -> None:
        """Book the errors of q at the sampled rows: the reference keeps no others."""
        self.q[pair.tap.layer].update(0, pair.q, pair.q_hat)

    def on_keys(self, keys: KeysRead) -> None:
        """Book these keys' errors."""
        self.k[keys.layer].update(keys.start, keys.k, keys.k_hat, keys.ends)
