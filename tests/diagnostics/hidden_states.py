"""The planted diagnosis with hidden states whose last bins are as asked."""

from __future__ import annotations

from qroar_core.diagnostics.sample import Sample
from qroar_core.diagnostics.similarity.result import Accumulation, HiddenSimilarity
from tests.helpers import planted

LEVEL = [[20.0, 20.0], [20.0, 20.0]]


def accumulated(added=(0.01, 0.03), inherited=(0.0, 0.01), cross=(0.0, 0.004)):
    return Accumulation(
        inherited=list(inherited),
        added=list(added),
        cross=list(cross),
        cross_null=[0.0, 0.002],
        share_added=[1.0, added[1] / (added[1] + inherited[1] or 1.0)],
        share_added_error=[0.0, 0.05],
        inherited_by_bin=LEVEL,
        added_by_bin=LEVEL,
        cross_by_bin=LEVEL,
    )


def found(last, **changes):
    """Two layers, two bins; the last layer's bins are 21 dB and `last` around 20 with a null of 19 to 21.5."""
    sqnr = [[30.0, 30.0], [21.0, last]]
    fields = {
        "cosine": [[1.0, 0.99], [0.99, 0.98]],
        "sqnr_db": sqnr,
        "sqnr_low": [[v - 1 for v in row] for row in sqnr],
        "sqnr_high": [[v + 1.5 for v in row] for row in sqnr],
        "pooled_sqnr_db": sqnr,
        "layer_sqnr_db": [30.0, 20.0],
        "null_low": [[29.0, 29.0], [19.0, 19.0]],
        "null_high": [[31.0, 31.0], [21.5, 21.5]],
        "accumulation": accumulated(),
        "sample": Sample(tokens=64, rows=63, seed=0, error="bars"),
    }
    return planted.diagnosis().model_copy(update={"hidden": HiddenSimilarity(**(fields | changes))})
