"""What each band costs when it alone is rounded, riding on the long pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from qroar_core.diagnostics.bands.channel_products import noise_of
from qroar_core.diagnostics.bands.measure import PartCost, part_costs
from qroar_core.diagnostics.measurement import Chunk, Measurement
from qroar_core.diagnostics.outliers.observe import PROBES
from qroar_core.maths.meters import CPU
from qroar_core.maths.positions import Sampled
from qroar_core.quantizers.fake_quantize import fake_quantize


@dataclass(slots=True, eq=False)
class BandCostRecorder:
    """Of every layer: the cost of each part under the probes."""

    measurement: Measurement
    rows: Sampled
    costs: dict[int, dict[str, PartCost]] = field(default_factory=dict)  # layer -> probe -> cost

    def parts(self, layer: int) -> list[Tensor]:
        """Channels of every band, then those without rotation: all of a layer that does not turn."""
        band = self.measurement.channel_band
        if layer in self.measurement.geometry.without_rope:
            band = torch.full_like(band, -1)
        return [torch.nonzero(band == b)[:, 0] for b in (*range(len(self.measurement.bands)), -1)]

    def on_chunk(self, chunk: Chunk) -> None:
        """Once all keys are there, weigh the sampled rows' attention with each part of them rounded."""
        tap, parts = chunk.tap, self.parts(chunk.tap.layer)
        if chunk.sampled_q is None:
            return
        cost = partial(part_costs, chunk.sampled_q, self.rows.positions, tap.k_seen, scaling=tap.scaling, rule=tap.rule)
        probes = {name: partial(fake_quantize, spec=spec) for name, spec in PROBES.items()}
        self.costs[tap.layer] = {name: cost(rounded=rounded, parts=parts) for name, rounded in probes.items()}

    def null(self, probe: str, draw: int) -> list[Tensor]:
        """Of every layer, each band's noise with channels dealt to the bands at random; NaN without RoPE."""
        seed, found = self.measurement.spec.seed, []
        for layer in sorted(self.costs):
            dealt = shuffled(self.parts(layer), seed, layer, draw)
            found.append(noise_of(self.costs[layer][probe].products.to(CPU), dealt))
        return found


def shuffled(parts: list[Tensor], seed: int, layer: int, draw: int) -> list[Tensor]:
    """The bands' channels dealt out at random, as many to each; without those that carry no rotation."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + layer) * 1_009 + draw)
    bands = parts[:-1]
    channels = torch.cat(bands)
    dealt = channels[torch.randperm(len(channels), generator=generator)]
    return list(dealt.split([len(band) for band in bands]))
