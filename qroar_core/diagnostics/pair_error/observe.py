"""Amplitude and phase errors of K along the long pass."""

from __future__ import annotations

from dataclasses import dataclass, field

from qroar_core.diagnostics.frame import Chunk, Frame
from qroar_core.diagnostics.pair_error.measure import PairErrorMeter


@dataclass(slots=True, eq=False)
class PairErrorRecorder:
    """Every layer's quantized K against its own."""

    frame: Frame
    meters: list[PairErrorMeter] = field(init=False)

    def __post_init__(self) -> None:
        geo, frame = self.frame.geometry, self.frame
        self.meters = [PairErrorMeter(frame.pair_band, geo.pairing, frame.bins) for _ in range(geo.n_layers)]

    def on_chunk(self, chunk: Chunk) -> None:
        """Book this chunk's errors."""
        self.meters[chunk.tap.layer].update(chunk.tap.start, chunk.tap.k, chunk.k_hat)
