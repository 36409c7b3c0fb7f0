"""Errors of K by angle along the long pass."""

from __future__ import annotations

from dataclasses import dataclass, field

from qroar_core.diagnostics.anisotropy.angle_null import Swapped
from qroar_core.diagnostics.anisotropy.measure import AnisotropyMeter, Seen
from qroar_core.diagnostics.key_recorder import KeyRecorder
from qroar_core.diagnostics.measurement import KeysRead, Measurement


@dataclass(slots=True, eq=False)
class AnisotropyRecorder(KeyRecorder):
    """Every layer's quantized K against its own."""

    measurement: Measurement
    meters: list[AnisotropyMeter] = field(init=False)
    turning: list[int] = field(init=False)  # layers with RoPE, in the order in which a chunk passes them
    before: dict[int, Seen] = field(default_factory=dict)  # of the layer before, by position of the first token

    def __post_init__(self) -> None:
        geo, measurement = self.measurement.geometry, self.measurement
        spec = measurement.spec
        self.turning = [layer for layer in range(geo.n_layers) if layer not in geo.without_rope]
        several = len(self.turning)
        self.meters = [
            AnisotropyMeter(
                measurement.pair_band,
                geo.pairing,
                swapped=Swapped(measurement.pair_band, geo.n_kv_heads, layer, spec.seed, spec.null_draws, several),
            )
            for layer in range(geo.n_layers)
        ]

    def on_keys(self, keys: KeysRead) -> None:
        """Book these keys' errors; the pass of a quantized model brings its K beside the reference's."""
        meter = self.meters[keys.layer]
        seen = meter.update(keys.k, keys.k_hat, keys.step, axes=keys.axes)
        if meter.swapped is None or meter.swapped.source != "layer" or keys.layer not in self.turning:
            return
        at = self.turning.index(keys.layer)
        if at % 2:
            first = self.before[keys.start]
            meter.book_null(seen, first)
            self.meters[self.turning[at - 1]].book_null(first, seen)
        elif at and at == len(self.turning) - 1:  # the last of an odd number takes from the one before it
            meter.book_null(seen, self.before[keys.start])
        self.before[keys.start] = seen
        if at == len(self.turning) - 1:
            del self.before[keys.start]
