"""From meters to the amplitude and phase errors of the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from qroar_core.diagnostics.listed import listed
from qroar_core.diagnostics.pair_error.measure import PairErrorMeter
from qroar_core.diagnostics.pair_error.result import PairErrors


def pair_errors_of(meters: Sequence[PairErrorMeter]) -> PairErrors:
    """Layers pooled: RMS of RMS, mean of shares."""
    found = [m.result() for m in meters]

    def rms(name: str) -> Any:
        return listed(torch.stack([getattr(f, name) for f in found]).square().nanmean(0).sqrt())

    return PairErrors(
        amplitude=rms("amplitude_rms"),
        phase=rms("phase_rms"),
        length_share=listed(torch.stack([f.length_share for f in found]).nanmean(0)),
    )
