"""The planted diagnosis with its null."""

from qroar_core.diagnostics.bands.result import BandCost
from tests.helpers import planted


def with_nulls():
    cost = BandCost(
        noise={"int4": [[1.0, 2.0, None]] * 2},
        attention_kl={"int4": [[0.1, 0.2, None]] * 2},
        error_share={"int4": [[0.5, 0.5, None]] * 2},
        channels=[4, 4, 0],
        null={"int4": [[[1.0, 1.25]] * 2, [[1.0, 1.5]] * 2]},
    )
    return planted.diagnosis().model_copy(update={"band_cost": cost})
