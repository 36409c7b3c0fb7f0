"""Errors of K by angle along the long pass."""

from __future__ import annotations

from dataclasses import dataclass, field

from qroar_core.diagnostics.angle_blind import AngleBlind
from qroar_core.diagnostics.anisotropy.measure import AnisotropyMeter
from qroar_core.diagnostics.frame import Chunk, Frame


@dataclass(slots=True, eq=False)
class AnisotropyRecorder:
    """Every layer's quantized K against its own."""

    frame: Frame
    meters: list[AnisotropyMeter] = field(init=False)

    def __post_init__(self) -> None:
        geo, frame = self.frame.geometry, self.frame
        blind = AngleBlind(geo.n_kv_heads, geo.n_pairs, frame.seed, frame.null_draws)
        self.meters = [AnisotropyMeter(frame.pair_band, geo.pairing, layer=layer, blind=blind)
                       for layer in range(geo.n_layers)]  # fmt: skip

    def on_chunk(self, chunk: Chunk) -> None:
        """Book this chunk's errors."""
        self.meters[chunk.tap.layer].update(chunk.tap.start, chunk.tap.k, chunk.k_hat, chunk.k_step)
