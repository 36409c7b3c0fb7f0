"""Errors of K by angle along the long pass."""

from __future__ import annotations

from dataclasses import dataclass, field

from qroar_core.diagnostics.anisotropy.measure import AnisotropyMeter
from qroar_core.diagnostics.anisotropy.swapped import Swapped
from qroar_core.diagnostics.frame import Frame, KeysRead
from qroar_core.diagnostics.key_recorder import KeyRecorder


@dataclass(slots=True, eq=False)
class AnisotropyRecorder(KeyRecorder):
    """Every layer's quantized K against its own."""

    frame: Frame
    meters: list[AnisotropyMeter] = field(init=False)

    def __post_init__(self) -> None:
        geo, frame = self.frame.geometry, self.frame
        spec = frame.spec
        self.meters = [
            AnisotropyMeter(frame.pair_band, geo.pairing,
                            swapped=Swapped(frame.pair_band, geo.n_kv_heads, layer, spec.seed, spec.null_draws))
            for layer in range(geo.n_layers)
        ]  # fmt: skip

    def on_keys(self, keys: KeysRead) -> None:
        """Book these keys' errors; the pass of a quantized model brings its K beside the reference's."""
        self.meters[keys.layer].update(keys.k, keys.k_hat, keys.step)
