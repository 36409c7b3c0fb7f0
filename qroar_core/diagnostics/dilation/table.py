"""From channel maps and quantiles to the ranges of the result."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qroar_core.diagnostics.dilation.measure import dilation
from qroar_core.diagnostics.dilation.observe import DilationRecorder
from qroar_core.diagnostics.dilation.result import Dilation, DilationNull
from qroar_core.diagnostics.outliers.measure import ChannelMeter
from qroar_core.diagnostics.sample import Sample, answered_by, null_drawn
from qroar_core.diagnostics.tensor_lists import listed

QUANTILES = (0.5, 0.99, 0.999)


def dilation_of(
    maps: Sequence[ChannelMeter], seen: DilationRecorder, channel_band: Tensor, reference: slice
) -> Dilation:
    """Ranges of K after RoPE by position, against the bins of the short context.

    Args:
        maps: of K after RoPE, layer by layer. seen: its quantiles and the null.
        channel_band: of each channel, -1 without rotation; int64 (head_dim,).
        reference: the bins of the short context.
    """
    found = [dilation(meter.result(), channel_band, reference) for meter in maps]
    by_bin = [meter.result(QUANTILES) for meter in seen.quantiles]  # (q, bins, bands) each
    asked = seen.measurement.spec
    return Dilation(
        absmax=listed(torch.stack([f.absmax.amax(0) for f in found])),
        rms=listed(torch.stack([f.rms.square().mean(0).sqrt() for f in found])),
        bits_lost=listed(torch.stack([f.bits_lost.amax(0) for f in found])),
        quantiles={str(q): listed(torch.stack([t[i].T for t in by_bin])) for i, q in enumerate(QUANTILES)},
        quantile_bound=seen.quantiles[0].histogram.relative_bound,
        null=_null(seen, reference),
        sample=Sample(tokens=seen.measurement.length, seed=asked.seed, error=null_drawn(answered_by(asked))),
    )


def _null(seen: DilationRecorder, reference: slice) -> DilationNull:
    """Least and greatest range by layer and band, and the most bits lost of each draw, layer and band."""
    low, high, most = [], [], []
    for meter in seen.nulls:
        absmax, lost = meter.result(reference)  # (draws, KV, bands, bins)
        shown = absmax.amax(1).movedim(1, 0).flatten(1)  # (bands, draws * bins)
        low.append(shown.nan_to_num(nan=torch.inf).amin(1))
        high.append(shown.nan_to_num(nan=-torch.inf).amax(1))
        most.append(lost.where(lost.isfinite(), -torch.inf).amax((1, 3)))  # (draws, bands)
    return DilationNull(
        absmax_low=listed(torch.stack(low)),
        absmax_high=listed(torch.stack(high)),
        largest=listed(torch.stack(most, 1).amax(2)),
        lost=listed(torch.stack(most, 1)),
    )
