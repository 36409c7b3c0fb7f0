"""Amplitude and phase errors of K along the long pass."""

from __future__ import annotations

from dataclasses import dataclass, field

from qroar_core.diagnostics.angle_blind import AngleBlind
from qroar_core.diagnostics.frame import Chunk, Frame, KeysRead
from qroar_core.diagnostics.pair_error.measure import PairErrorMeter


@dataclass(slots=True, eq=False)
class PairErrorRecorder:
    """Every layer's quantized K against its own."""

    frame: Frame
    meters: list[PairErrorMeter] = field(init=False)

    def __post_init__(self) -> None:
        geo, frame = self.frame.geometry, self.frame
        blind = AngleBlind(geo.n_kv_heads, geo.n_pairs, frame.spec.seed, frame.spec.null_draws)
        self.meters = [PairErrorMeter(frame.pair_band, geo.pairing, frame.bins, layer, blind)
                       for layer in range(geo.n_layers)]  # fmt: skip

    def on_chunk(self, chunk: Chunk) -> None:
        """The long pass: each layer's own K against what the quantizers make of it."""
        for keys in chunk.keys_read:
            self.on_keys(keys)

    def on_keys(self, keys: KeysRead) -> None:
        """Book these keys' errors; the pass of a quantized model brings its K beside the reference's."""
        self.meters[keys.layer].update(keys.start, keys.k, keys.k_hat)
