"""From meters to the error by angle of the result."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from qroar_core.diagnostics.anisotropy.measure import AnisotropyMeter
from qroar_core.diagnostics.anisotropy.result import Anisotropy
from qroar_core.diagnostics.listed import listed


def anisotropy_of(meters: Sequence[AnisotropyMeter], still: Sequence[int] = ()) -> Anisotropy:
    """Mean error by angle over layers, and each layer's worst angle over its best; `still` ones have no pairs."""
    found = [m.result() for m in meters]
    error = torch.stack([f.error for i, f in enumerate(found) if i not in still])
    ratio = torch.stack([f.ratio for f in found])
    ratio[list(still)] = torch.nan
    return Anisotropy(angle=listed(found[0].angle), error=listed(error.nanmean(0)), ratio=listed(ratio))
