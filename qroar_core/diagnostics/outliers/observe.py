"""Channel maps and outlier errors of the long pass."""

from __future__ import annotations

from dataclasses import dataclass, field

from qroar_core.diagnostics.key_recorder import KeyRecorder
from qroar_core.diagnostics.measurement import SIDES, Chunk, KeysRead, Measurement
from qroar_core.diagnostics.outliers.entries import EntryMeter
from qroar_core.diagnostics.outliers.measure import ChannelMeter, Deal
from qroar_core.quantizers.fake_quantize import fake_quantize
from qroar_core.specs import QuantizerSpec

PROBES = {"int8": QuantizerSpec(8), "int4": QuantizerSpec(4)}  # whose error outliers are asked about
IN_FORCE = "in force"  # the same of the setting's own quantizers of K, on the keys that they are given


@dataclass(slots=True, eq=False)
class OutlierRecorder(KeyRecorder):
    """Channel maps of every side and layer, and what outlier entries of K cost.

    Maps and probes are of the long pass. The setting's own quantizers are counted apart, on the keys that they round:
    those of a quantized pass where there is one, and never those that the cache still holds exactly.
    """

    measurement: Measurement
    deal: Deal | None  # None: there is nothing late to compare with
    rounds: bool  # whether the setting's own quantizers round K
    propagates: bool = False  # whether a quantized pass brings the keys that they are given
    maps: dict[str, list[ChannelMeter]] = field(init=False)
    errors: list[EntryMeter] = field(init=False)  # of the probes, layer by layer
    own: list[EntryMeter] = field(init=False)  # of the setting's quantizers; empty where they round no K

    def __post_init__(self) -> None:
        geo = self.measurement.geometry
        heads = {"q": geo.n_heads, "k": geo.n_kv_heads}
        self.maps = {
            side: [
                ChannelMeter(heads[side[0]], geo.head_dim, self.measurement.bins, self.deal)
                for _ in range(geo.n_layers)
            ]
            for side in SIDES
        }
        self.errors = self._entries(*PROBES)
        self.own = self._entries(IN_FORCE) if self.rounds else []

    def _entries(self, *variants: str) -> list[EntryMeter]:
        geo = self.measurement.geometry
        return [EntryMeter(geo.n_kv_heads, self.measurement.channel_band, variants) for _ in range(geo.n_layers)]

    def on_chunk(self, chunk: Chunk) -> None:
        """Feed the maps with all sides, the errors with K after RoPE."""
        tap = chunk.tap
        for side, x in chunk.sides.items():
            self.maps[side][tap.layer].update(tap.start, x)
        meter = self.errors[tap.layer]
        meter.update(tap.k, {name: fake_quantize(tap.k, spec) for name, spec in PROBES.items()})
        if self.rounds and not self.propagates:
            self.own[tap.layer].see(tap.k)
            KeyRecorder.on_chunk(self, chunk)

    def on_keys(self, keys: KeysRead) -> None:
        """Book what the setting's own quantizers make of the keys that they are given."""
        if not self.rounds:
            return
        own = self.own[keys.layer]
        if self.propagates:  # every key comes here, also those that the cache holds exactly
            own.see(keys.handed)
        if keys.given is not None:
            own.book(keys.given, {IN_FORCE: keys.k_hat})
