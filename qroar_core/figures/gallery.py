"""Every picture of a finished run, in the order of the work: what the report prints."""

from __future__ import annotations

from qroar_core.figures import evaluation as evaluated
from qroar_core.figures import scales as scaled
from qroar_core.figures import search_trace
from qroar_core.figures.picture import Picture
from qroar_core.results import Diagnosis, Evaluation, ScalesFile, SearchReport


def gallery(diagnosis: Diagnosis, search: SearchReport, scales: ScalesFile,
            evaluation: Evaluation) -> dict[str, list[Picture]]:  # fmt: skip
    """Chapter title -> pictures."""
    proof = [
        evaluated.perplexity_by_length(evaluation),
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
    """The diagnosis alone (the Diagnose page shows the same)."""
    return []
