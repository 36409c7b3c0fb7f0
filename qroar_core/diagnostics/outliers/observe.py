"""Channel maps and outlier errors of the long pass."""

from __future__ import annotations

from dataclasses import dataclass, field

from qroar_core.diagnostics.frame import SIDES, Chunk, Frame
from qroar_core.diagnostics.outliers.measure import ChannelMeter, OutlierErrorMeter, entry_threshold
from qroar_core.maths.quantize import fake_quantize
from qroar_core.specs import QuantizerSpec

PROBES = {"int8": QuantizerSpec(8), "int4": QuantizerSpec(4)}  # whose error outliers are asked about


@dataclass(slots=True, eq=False)
class OutlierRecorder:
    """Channel maps of every side and layer, and what outlier entries of K cost."""

    frame: Frame
    maps: dict[str, list[ChannelMeter]] = field(init=False)
    by_layer: dict[int, OutlierErrorMeter] = field(default_factory=dict)

    def __post_init__(self) -> None:
        geo = self.frame.geometry
        self.maps = {side: [ChannelMeter(geo.n_kv_heads, geo.head_dim, self.frame.bins) for _ in range(geo.n_layers)]
                     for side in SIDES}  # fmt: skip

    @property
    def errors(self) -> list[OutlierErrorMeter]:
        """Layer by layer."""
        return [self.by_layer[layer] for layer in sorted(self.by_layer)]

    def on_chunk(self, chunk: Chunk) -> None:
        """Feed the maps with all sides, the errors with K after RoPE."""
        tap, frame = chunk.tap, self.frame
        for side, x in chunk.sides.items():
            self.maps[side][tap.layer].update(tap.start, x)
        if tap.layer not in self.by_layer:
            limit = entry_threshold(tap.k, frame.geometry.n_kv_heads)
            self.by_layer[tap.layer] = OutlierErrorMeter(limit, frame.channel_band, tuple(PROBES))
        self.by_layer[tap.layer].update(tap.k, {name: fake_quantize(tap.k, spec) for name, spec in PROBES.items()})
