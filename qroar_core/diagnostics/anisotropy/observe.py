"""Errors of K by angle along the long pass."""

from __future__ import annotations

from dataclasses import dataclass, field

from qroar_core.diagnostics.anisotropy.measure import AnisotropyMeter
from qroar_core.diagnostics.frame import Chunk, Frame, KeysRead


@dataclass(slots=True, eq=False)
class AnisotropyRecorder:
    """Every layer's quantized K against its own."""

    frame: Frame
    meters: list[AnisotropyMeter] = field(init=False)

    def __post_init__(self) -> None:
        geo = self.frame.geometry
        self.meters = [AnisotropyMeter(self.frame.pair_band, geo.pairing) for _ in range(geo.n_layers)]

    def on_chunk(self, chunk: Chunk) -> None:
        """The long pass: each layer's own K against what the quantizers make of it."""
        for keys in chunk.keys_read:
            self.on_keys(keys)

    def on_keys(self, keys: KeysRead) -> None:
        """Book these keys' errors; the pass of a quantized model brings its K beside the reference's."""
        self.meters[keys.layer].update(keys.k, keys.k_hat, keys.step)
