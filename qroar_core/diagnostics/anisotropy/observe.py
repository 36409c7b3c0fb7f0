"""Errors of K by angle along the long pass."""

from __future__ import annotations

from dataclasses import dataclass, field

from qroar_core.diagnostics.anisotropy.measure import AnisotropyMeter
from qroar_core.diagnostics.frame import Chunk, Frame


@dataclass(slots=True, eq=False)
class AnisotropyRecorder:
    """Every layer's quantized K against its own."""

    frame: Frame
    meters: list[AnisotropyMeter] = field(init=False)

    def __post_init__(self) -> None:
        geo = self.frame.geometry
        self.meters = [AnisotropyMeter(self.frame.pair_band, geo.pairing) for _ in range(geo.n_layers)]

    def on_chunk(self, chunk: Chunk) -> None:
        """Book this chunk's errors."""
        self.meters[chunk.tap.layer].update(chunk.tap.k, chunk.k_hat)
