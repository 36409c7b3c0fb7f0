"""Band by band over a logarithmic grid that contains 1."""

from __future__ import annotations

from torch import Tensor

from qroar_core.scale_search.optuna_candidates import grid_of, swept
from qroar_core.scale_search.search_method import SearchMethod, begin
from qroar_core.scale_search.state import SearchState
from qroar_core.transforms.scales import pooled


def coordinate(run: SearchState, starts: dict[str, Tensor]) -> None:
    """Sweep the bands; at each, every unit takes the grid point with the least error of its own."""
    begin(run, {"identity": starts["identity"]})
    done, trial = run.tried("sweep"), 0
    for sweep in range(run.spec.sweeps):
        for band in range(run.best.shape[-1]):
            for point in grid_of(run.bounds, band, run.spec.grid_points):  # (layers,) each
                trial += 1
                if trial <= done:
                    continue
                moved = run.best.clone()
                moved[:, :, band] = point[:, None].to(moved)
                error = run.offer(pooled(moved, run.spec.granularity))
                label = f"sweep {sweep + 1}, band {band}, {float(point.mean()):+.2f} octaves"
                run.report(trial, label, float(error.mean()), run.value)
    if not run.tried("best of every unit"):
        run.report(trial + 1, "best of every unit", run.value, run.value)


METHOD = SearchMethod(
    20,
    coordinate,
    swept,
    ("sweeps", "grid_points"),
    "coordinate descent, band by band over a logarithmic grid that contains 1; every head keeps its best",
    label="sweep",
)
