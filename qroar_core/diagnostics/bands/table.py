"""From recorders to the bands' costs of the result."""

from __future__ import annotations

import torch
from torch import Tensor

from qroar_core.diagnostics.bands.observe import BandCostRecorder
from qroar_core.diagnostics.bands.result import BandCost
from qroar_core.diagnostics.outliers.observe import PROBES
from qroar_core.diagnostics.sample import ROW_ERRORS, Sample, answered_by, null_drawn
from qroar_core.diagnostics.standard_error import residuals, root_error
from qroar_core.diagnostics.tensor_lists import listed
from qroar_core.maths.scatter_gather import gathered
from qroar_core.result import LayerBand, PerBand


def band_cost_of(recorder: BandCostRecorder) -> BandCost:
    """Layer by layer, with what it was counted on."""
    measurement, layers = recorder.measurement, sorted(recorder.costs)

    def of(name: str, field: str) -> LayerBand:
        return listed(gathered([getattr(recorder.costs[layer][name], field) for layer in layers]))

    shares = {name: listed(gathered([_share(recorder.costs[i][name].energy) for i in layers])) for name in PROBES}
    return BandCost(
        noise={name: of(name, "noise") for name in PROBES},
        attention_kl={name: of(name, "kl") for name in PROBES},
        error_share=shares,
        noise_error={name: _noise_error(recorder, name) for name in PROBES},
        channels=_channels(recorder),
        null={
            name: [listed(torch.stack(recorder.null(name, draw))) for draw in range(answered_by(measurement.spec))]
            for name in PROBES
        },
        sample=Sample(
            tokens=measurement.length,
            rows=len(recorder.rows.positions),
            seed=measurement.spec.seed,
            error=f"bars are {ROW_ERRORS}; {null_drawn(answered_by(measurement.spec))}",
        ),
    )


def _noise_error(recorder: BandCostRecorder, probe: str) -> PerBand:
    """Of each band's RMS over rows and the layers that turn; None with a single row."""
    turning = [i for i in recorder.costs if i not in recorder.measurement.geometry.without_rope]
    square = gathered([recorder.costs[i][probe].square for i in turning])[:, : len(recorder.measurement.bands)].mean(0)
    return listed(root_error(square.mean(-1), residuals(square, torch.ones_like(square))))


def _share(energy: Tensor) -> Tensor:
    """Of the whole; NaN stays, and nothing has a share of no error."""
    return energy / energy.nansum() if energy.nansum() > 0 else torch.full_like(energy, torch.nan)


def _channels(recorder: BandCostRecorder) -> list[int]:
    """Of each part, in layers that turn; the last is what they leave without rotation."""
    turning = [i for i in recorder.costs if i not in recorder.measurement.geometry.without_rope]
    return [len(part) for part in recorder.parts(turning[0])]
