"""From the meters of some layers to how far the interpolation moves their logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from qroar_core.diagnostics.pressure.observe import PressureRecorder
from qroar_core.diagnostics.pressure.result import LogitChange
from qroar_core.diagnostics.sample import Sample

ERROR = "the standard error takes rows as drawn independently, which overstates it"


def logit_change_of(recorder: PressureRecorder, layers: Sequence[int]) -> tuple[LogitChange, list[float]]:
    """Mean over `layers`, which see equally far, and the mean absolute part of each RoPE pair."""
    meters = [meter for layer in layers if (meter := recorder.meters[layer]) is not None]
    found = [meter.result() for meter in meters]
    drawn, spec = meters[0].drawn, recorder.measurement.spec
    by_row = torch.stack([f.parts for f in found]).mean(0)  # (R, r/2)
    parts = drawn.mean(by_row)
    moved = torch.stack([f.moved for f in found])  # (layers, R, bands + 1)
    mean, error = drawn.mean(moved.mean(0)), drawn.error(moved.mean(0))
    nulls = torch.stack([drawn.mean(one) for one in torch.stack([f.null for f in found]).mean(0)])  # (draws, bands + 1)
    null, low, high = nulls.mean(0), nulls.amin(0), nulls.amax(0)
    bound = torch.zeros_like(mean[:-1]).index_add_(0, recorder.measurement.pair_band, parts)
    ranges = list(zip(low.tolist(), high.tolist(), strict=True))
    length = recorder.measurement.length
    sample = (
        Sample(tokens=length, seed=spec.seed)
        if drawn.whole
        else Sample(tokens=length, rows=len(drawn.rows), keys=drawn.keys.shape[1], seed=spec.seed, error=ERROR)
    )
    change = LogitChange(
        law=spec.law,
        in_all=float(mean[-1]),
        in_all_error=float(error[-1]),
        in_all_bound=float(parts.sum()),
        in_all_null=float(null[-1]),
        in_all_null_range=ranges[-1],
        by_band=mean[:-1].tolist(),
        error=error[:-1].tolist(),
        bound=bound.tolist(),
        null=null[:-1].tolist(),
        null_range=ranges[:-1],
        layers=list(layers),
        by_layer=[drawn.mean(one)[:-1].tolist() for one in moved],
        pair_error=drawn.error(by_row).tolist(),
        sample=sample,
    )
    return change, parts.tolist()
