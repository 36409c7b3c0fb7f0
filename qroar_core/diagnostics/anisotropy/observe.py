"""Errors of K by angle along the long pass."""

from __future__ import annotations

from dataclasses import dataclass, field

from qroar_core.diagnostics.anisotropy.measure import AnisotropyMeter
from qroar_core.diagnostics.frame import Frame, KeysRead
from qroar_core.diagnostics.key_recorder import KeyRecorder


@dataclass(slots=True, eq=False)
class AnisotropyRecorder(KeyRecorder):
    """Every layer's quantized K against its own."""

    frame: Frame
    meters: list[AnisotropyMeter] = field(init=False)

    def __post_init__(self) -> None:
        geo = self.frame.geometry
        self.meters = [AnisotropyMeter(self.frame.pair_band, geo.pairing) for _ in range(geo.n_layers)]

    def on_keys(self, keys: KeysRead) -> None:
        """Book these keys' errors."""
        self.meters[keys.layer].update(keys.k, keys.k_hat, keys.step)
