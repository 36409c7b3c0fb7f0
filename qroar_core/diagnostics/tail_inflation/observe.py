"""The paired tokens: the same ones inside the long context and at the end of a short window."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from qroar_core.diagnostics.measurement import SIDES, Measurement, sides_of
from qroar_core.diagnostics.tail_inflation.measure import BandTails
from qroar_core.models.stream import AttentionTap


@dataclass(slots=True, eq=False)
class PairedTails:
    """Tails of the paired tokens, in the long pass or (`short_length` set) in a batch of short windows."""

    measurement: Measurement
    short_length: int | None = None
    first_window: int = 0  # of the batch being read
    tails: dict[str, list[BandTails]] = field(init=False)

    def __post_init__(self) -> None:
        n, kv = len(self.measurement.windows), self.measurement.geometry.n_kv_heads
        band, layers = self.measurement.channel_band, range(self.measurement.geometry.n_layers)
        self.tails = {
            side: [BandTails(n, kv, band, self.measurement.tail_keep[side[0]]) for _ in layers] for side in SIDES
        }

    def on_attention(self, tap: AttentionTap) -> None:
        """Add the paired tokens this chunk holds."""
        stop = tap.start + tap.k.shape[1]
        if self.short_length is not None:
            ends = [(self.first_window + tap.row, self.short_length)]
        else:
            ends = list(enumerate(self.measurement.windows))
        for window, end in ends:
            a, b = max(tap.start, end - self.measurement.paired_tokens), min(stop, end)
            if b > a:
                rows = slice(a - tap.start, b - tap.start)
                for side, x in sides_of(tap, self.measurement.geometry, rows).items():
                    self.tails[side][tap.layer].add(window, x)

    def on_layer(self, layer: int, row: int, start: int, hidden: Tensor) -> None:
        """Nothing to keep."""
