"""From channel maps and errors to the outliers of the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from qroar_core.diagnostics.listed import listed, significant
from qroar_core.diagnostics.outliers.measure import ChannelMeter, OutlierErrorMeter, outlier_shift
from qroar_core.diagnostics.outliers.observe import PROBES
from qroar_core.diagnostics.outliers.result import Outliers

RULE = "iqr"


def outliers_of(sides: Mapping[str, Sequence[ChannelMeter]], errors: Sequence[OutlierErrorMeter],
                early: slice) -> Outliers:  # fmt: skip
    """Channel maps, how outlier channels move, and what share of the error they carry.

    Args:
        sides: "k/post" and so on -> the channel maps of every layer.
        errors: of every layer.
        early: the position bins of the short context; as many at the end are held against them.
    """
    maps, jaccard, moved = {}, {}, {}
    for side, meters in sides.items():
        found = [meter.result() for meter in meters]
        count = found[0].bins.count
        late = slice(count - max(1, early.stop), count)
        maps[side] = listed(significant(torch.stack([f.maximum for f in found])))
        shifts = [outlier_shift(f, early, late, RULE) for f in found]
        jaccard[side] = listed(torch.stack([s.jaccard for s in shifts]))
        moved[side] = listed(torch.stack([s.mass_moved for s in shifts]))
    shares = [meter.result() for meter in errors]
    error = torch.stack([s.error_share for s in shares])  # (layers, variants, KV, bands)
    return Outliers(
        maps=maps,
        rule=RULE,
        jaccard=jaccard,
        mass_moved=moved,
        error_share={name: listed(error[:, i].nanmean(1)) for i, name in enumerate(PROBES)},
        entry_share=listed(torch.stack([s.entry_share for s in shares]).nanmean(1)),
    )
