"""K, and q where it is quantized, before against after quantization along the long pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from qroar_core.diagnostics.frame import Chunk, Frame, KeysRead
from qroar_core.diagnostics.key_recorder import KeyRecorder, blind_meters
from qroar_core.diagnostics.rounding.measure import RoundingMeter


@dataclass(slots=True, eq=False)
class RoundingRecorder(KeyRecorder):
    """Every layer's quantized K, and q, against its own."""

    frame: Frame
    rounds_q: bool
    k: list[RoundingMeter] = field(init=False)
    q: list[RoundingMeter] = field(init=False)  # empty where q is not quantized

    def __post_init__(self) -> None:
        geo = self.frame.geometry
        self.k = self._meters(geo.n_kv_heads)
        self.q = self._meters(geo.n_heads) if self.rounds_q else []

    def _meters(self, heads: int) -> list[RoundingMeter]:
        geo, frame = self.frame.geometry, self.frame
        return blind_meters(frame, heads, partial(RoundingMeter, geo.n_kv_heads, frame.channel_band, geo.pairing))

    def on_chunk(self, chunk: Chunk) -> None:
        """Book this chunk's errors."""
        tap, rounding = chunk.tap, chunk.rounding
        KeyRecorder.on_chunk(self, chunk)
        if self.q:
            ends = rounding.ends(tap.q, tap.layer, "q")
            self.q[tap.layer].update(tap.start, tap.q, rounding.q(tap.q, tap.layer), ends)

    def on_keys(self, keys: KeysRead) -> None:
        """Book these keys' errors."""
        self.k[keys.layer].update(keys.start, keys.k, keys.k_hat, keys.ends)
