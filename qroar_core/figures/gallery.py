"""Every picture of a finished run, in the order of the work: what the report prints."""

from __future__ import annotations

from qroar_core.figures import aliasing, anisotropy, dilation, noise, outliers, pressure, search_trace, tails
from qroar_core.figures import evaluation as evaluated
from qroar_core.figures import scales as scaled
from qroar_core.figures.picture import Picture
from qroar_core.results import Diagnosis, Evaluation, ScalesFile, SearchReport


def gallery(diagnosis: Diagnosis, search: SearchReport, scales: ScalesFile,
            evaluation: Evaluation) -> dict[str, list[Picture]]:  # fmt: skip
    """Chapter title -> pictures."""
    proof = [
        evaluated.perplexity_by_length(evaluation),
        evaluated.cost_by_length(evaluation),
        evaluated.gain_and_attribution(evaluation),
        evaluated.by_position(evaluation),
    ]
    tuned = [scaled.by_layer_and_band(scales), search_trace.candidates(search.history, search.objective)]
    return {
        "Diagnosis": diagnosed(diagnosis),
        "Search": tuned,
        "Evaluation": [p for p in proof if p is not None],
    }


def diagnosed(diagnosis: Diagnosis) -> list[Picture]:
    """The diagnosis alone: what the Diagnose page shows, maps of one layer for the first layer only."""
    drawn = [
        pressure.by_band(diagnosis),
        pressure.by_pair(diagnosis),
        aliasing.unseen(diagnosis),
        aliasing.kernel(diagnosis),
        *(tails.by_layer_and_band(diagnosis, *which.split("/")) for which in diagnosis.tails),
        dilation.by_position(diagnosis, 0),
        *(outliers.shift(diagnosis, which) for which in diagnosis.outliers.jaccard),
        *(outliers.error_share(diagnosis, bits) for bits in diagnosis.outliers.error_share),
        noise.by_position(diagnosis),
        noise.by_layer_and_band(diagnosis),
        noise.by_distance(diagnosis),
        noise.pair_error(diagnosis),
        anisotropy.by_angle(diagnosis),
        noise.hidden_states(diagnosis),
    ]
    return [picture for picture in drawn if picture is not None]
