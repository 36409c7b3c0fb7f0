"""K, and q where it is quantized, before against after quantization along the long pass."""

from __future__ import annotations

from dataclasses import dataclass, field

from qroar_core.diagnostics.angle_blind import AngleBlind
from qroar_core.diagnostics.frame import Chunk, Frame, KeysRead
from qroar_core.diagnostics.rounding.measure import RoundingMeter


@dataclass(slots=True, eq=False)
class RoundingRecorder:
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
        blind = AngleBlind(heads, geo.n_pairs, frame.spec.seed, frame.spec.null_draws)
        return [RoundingMeter(geo.n_kv_heads, frame.channel_band, geo.pairing, layer, blind)
                for layer in range(geo.n_layers)]  # fmt: skip

    def on_chunk(self, chunk: Chunk) -> None:
        """Book this chunk's errors."""
        tap, rounding = chunk.tap, chunk.rounding
        for keys in chunk.keys_read:
            self.on_keys(keys)
        if self.q:
            ends = rounding.ends(tap.q, tap.layer, "q")
            self.q[tap.layer].update(tap.start, tap.q, rounding.q(tap.q, tap.layer), ends)

    def on_keys(self, keys: KeysRead) -> None:
        """Book these keys' errors; the pass of a quantized model brings its K beside the reference's."""
        self.k[keys.layer].update(keys.start, keys.k, keys.k_hat, keys.ends)
