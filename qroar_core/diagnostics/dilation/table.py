"""From channel maps and quantiles to the ranges of the result."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qroar_core.diagnostics.dilation.measure import QuantilesByPosition, dilation
from qroar_core.diagnostics.dilation.result import Dilation
from qroar_core.diagnostics.listed import listed
from qroar_core.diagnostics.outliers.measure import ChannelMeter

QUANTILES = (0.5, 0.99, 0.999)


def dilation_of(maps: Sequence[ChannelMeter], quantiles: Sequence[QuantilesByPosition], channel_band: Tensor,
                reference: slice) -> Dilation:  # fmt: skip
    """Ranges of K after RoPE by position, against the bins of the short context.

    Args:
        maps, quantiles: of K after RoPE, layer by layer.
        channel_band: of each channel, -1 without rotation; int64 (head_dim,).
        reference: the bins of the short context.
    """
    found = [dilation(meter.result(), channel_band, reference) for meter in maps]
    by_bin = [meter.result(QUANTILES) for meter in quantiles]  # (q, bins, bands) each
    return Dilation(
        absmax=listed(torch.stack([f.absmax.amax(0) for f in found])),
        rms=listed(torch.stack([f.rms.square().mean(0).sqrt() for f in found])),
        bits_lost=listed(torch.stack([f.bits_lost.amax(0) for f in found])),
        quantiles={str(q): listed(torch.stack([t[i].T for t in by_bin])) for i, q in enumerate(QUANTILES)},
    )
