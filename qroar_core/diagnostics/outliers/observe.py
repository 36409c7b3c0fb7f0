"""Channel maps and outlier errors of the long pass."""

from __future__ import annotations

from dataclasses import dataclass, field

from qroar_core.diagnostics.frame import SIDES, Chunk, Frame
from qroar_core.diagnostics.outliers.entries import EntryMeter
from qroar_core.diagnostics.outliers.measure import ChannelMeter, Deal
from qroar_core.maths.quantize import fake_quantize
from qroar_core.specs import QuantizerSpec

PROBES = {"int8": QuantizerSpec(8), "int4": QuantizerSpec(4)}  # whose error outliers are asked about
IN_FORCE = "in force"  # the same of the setting's own quantizers of K


@dataclass(slots=True, eq=False)
class OutlierRecorder:
    """Channel maps of every side and layer, and what outlier entries of K cost."""

    frame: Frame
    deal: Deal | None  # None: there is nothing late to compare with
    rounds: bool  # whether the setting's own quantizers round K
    maps: dict[str, list[ChannelMeter]] = field(init=False)
    errors: list[EntryMeter] = field(init=False)  # layer by layer

    def __post_init__(self) -> None:
        geo = self.frame.geometry
        self.maps = {side: [ChannelMeter(geo.n_kv_heads, geo.head_dim, self.frame.bins, self.deal)
                            for _ in range(geo.n_layers)] for side in SIDES}  # fmt: skip
        variants = (*PROBES, *([IN_FORCE] if self.rounds else []))
        self.errors = [EntryMeter(geo.n_kv_heads, self.frame.channel_band, variants) for _ in range(geo.n_layers)]

    def on_chunk(self, chunk: Chunk) -> None:
        """Feed the maps with all sides, the errors with K after RoPE."""
        tap = chunk.tap
        for side, x in chunk.sides.items():
            self.maps[side][tap.layer].update(tap.start, x)
        meter = self.errors[tap.layer]
        meter.update(tap.k, {name: fake_quantize(tap.k, spec) for name, spec in PROBES.items()})
        if self.rounds:
            for keys in chunk.keys_read:
                meter.update(keys.k, {IN_FORCE: keys.k_hat}, seen=True)
