"""How far an interpolation moves the logits, as the file keeps it."""

from __future__ import annotations

from typing import Annotated, ClassVar

from qroar_core.diagnostics.null import NullRow
from qroar_core.diagnostics.sample import Sample
from qroar_core.result import Result
from qroar_core.result_shapes import axes
from qroar_core.specs import DistanceLaw

GROWN = "nats if the stretch grows 2.7 times"
SIGNS = "every pair's own part of the logit with a random sign"


class LogitChange(Result):
    """|d logit / d ln s|, nats per e-fold of the stretch s: mean over (query, key) pairs under `law`, heads and layers.

    Lists are by band. The logit's change is the absolute value of a sum over RoPE pairs, so pairs that push in
    opposite directions cancel. `bound` is the sum over pairs of the mean absolute part: the change never exceeds it.
    """

    LOCAL: ClassVar = ("turning",)

    law: DistanceLaw
    in_all: float  # of all pairs together
    in_all_error: float  # standard error over the sampled rows, 0 where every pair of tokens was counted
    in_all_bound: float
    in_all_null: float  # the same parts with random signs, mean over draws
    in_all_null_range: Annotated[tuple[float, float], axes("ends")]  # least and greatest draw
    by_band: Annotated[list[float], axes("band")]  # of the band's pairs alone
    error: Annotated[list[float], axes("band")]
    bound: Annotated[list[float], axes("band")]
    null: Annotated[list[float], axes("band")]
    null_range: Annotated[list[tuple[float, float]], axes("band", "ends")]
    layers: Annotated[list[int], axes("turning")]  # that turn, of the rows of by_layer
    by_layer: Annotated[list[list[float]], axes("turning", "band")]  # [layer of these][band]
    # standard error of each pair alone (Pairs.logit_weighted_pressure); empty: an older file
    pair_error: Annotated[list[float], axes("pair")] = []
    sample: Sample | None = None

    def null_rows(self) -> list[NullRow]:
        """All pairs together, then every band."""
        found = [("all pairs", self.in_all, self.in_all_null, self.in_all_null_range, self.in_all_error)]
        found += [
            (f"band {b}", *numbers)
            for b, numbers in enumerate(zip(self.by_band, self.null, self.null_range, self.error, strict=True))
        ]
        return [
            NullRow(
                diagnostic="Logit change under the interpolation",
                quantity=f"{what}, {GROWN}",
                measured=moved,
                null=null,
                low=low,
                high=high,
                error=error,
                control=SIGNS,
            )
            for what, moved, null, (low, high), error in found
        ]
