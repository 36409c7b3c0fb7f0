"""What diagnostics that compare keys one by one share: how keys reach them, and errors that do not see the angle."""

from __future__ import annotations

from typing import Any

from qroar_core.diagnostics.angle_blind import AngleBlind
from qroar_core.diagnostics.measurement import Chunk, KeysRead, Measurement


class KeyRecorder:
    """Books keys from the long pass, or from the pass of a quantized model, which brings its K to `on_keys`."""

    __slots__ = ()

    def on_chunk(self, chunk: Chunk) -> None:
        """The long pass: each layer's own K against what the quantizers make of it."""
        for keys in chunk.keys_read:
            self.on_keys(keys)

    def on_keys(self, keys: KeysRead) -> None:
        """Book these keys' errors."""
        raise NotImplementedError


def blind_meters(measurement: Measurement, heads: int, meter: Any) -> list[Any]:
    """One `meter(layer, blind)` a layer, all with the same draws of errors that do not see the angle of `heads`."""
    geo, spec = measurement.geometry, measurement.spec
    blind = AngleBlind(heads, geo.n_pairs, spec.seed, spec.null_draws)
    return [meter(layer=layer, blind=blind) for layer in range(geo.n_layers)]
