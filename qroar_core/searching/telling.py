"""What a search says of itself: how far it has come, and why it left everything alone."""

from __future__ import annotations

from torch import Tensor

from qroar_core.results import SearchReport
from qroar_core.results.intervals import NO_GAIN
from qroar_core.searching.frame import Frame
from qroar_core.searching.polish import Polish
from qroar_core.searching.whole import Whole
from qroar_core.specs import SearchSpec


def untouched(frame: Frame, bounds: Tensor) -> SearchReport:
    """The report where scales cannot act: nothing was searched."""
    return SearchReport(
        verdict=frame.verdict, method="none", objective="none", objective_identity=1.0, objective_found=1.0,
        history=[], bounds=bounds.tolist(), trials=0, seconds=0.0, forward_seconds=0.0,
        forward_equivalents=0.0, guard="not needed", text="none read", chosen="identity",
        reason=f"{NO_GAIN}, scales cannot act here",
    )  # fmt: skip


def total(spec: SearchSpec, bands: int, part: Whole | None) -> int:
    """Candidates of the pass that is under way; `part` is the one through the whole model, once it has begun."""
    swept = spec.sweeps * bands * 2 * (spec.grid_points // 2)
    if isinstance(part, Polish):
        return spec.polish_steps
    if part is not None:
        return spec.trials if spec.method == "optuna" else min(spec.trials, swept)
    return {"gradient": spec.steps, "coordinate": swept, "optuna": spec.trials}[spec.method]
