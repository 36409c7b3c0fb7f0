"""Every picture of a finished run, in the order of the work: what the report prints."""

from __future__ import annotations

from qroar_core.diagnostics.figures import figures_of
from qroar_core.diagnostics.registry import diagnostics
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.evaluation import figure as evaluated
from qroar_core.evaluation import figure_kl
from qroar_core.evaluation.result import Evaluation
from qroar_core.figures.by_group import Draw
from qroar_core.figures.picture import Picture
from qroar_core.scale_search import figure as search_trace
from qroar_core.scale_search.result import SearchReport
from qroar_core.transforms.figures import figures_of as figures_of_transform
from qroar_core.transforms.result import ScalesFile

OF: dict[str, dict[str, Draw]] = {name: figures_of(name) for name in diagnostics()}  # figures of each diagnostic
# every figure of a diagnosis by the name that the library knows it by
DIAGNOSIS: dict[str, Draw] = {name: draw for figures in OF.values() for name, draw in figures.items()}


def gallery(
    diagnosis: Diagnosis, search: SearchReport, scales: ScalesFile, evaluation: Evaluation
) -> dict[str, list[Picture]]:
    """Chapter title -> pictures."""
    on_held_out = [
        evaluated.perplexity_by_length(evaluation),
        evaluated.cost_by_length(evaluation),
        evaluated.gain_and_attribution(evaluation),
        figure_kl.rotation(evaluation),
        figure_kl.divergence(evaluation),
        evaluated.by_position(evaluation),
    ]
    tuned = [
        *figures_of_transform(scales).values(),
        search_trace.candidates(search.history, search.objective),
    ]
    return {
        "Bands": [picture for picture in DIAGNOSIS["band_cost"](diagnosis) if picture is not None],
        "Diagnosis": diagnosed(diagnosis),
        "Search": [p for p in tuned if p is not None],
        "Evaluation": [p for p in on_held_out if p is not None],
    }


def diagnosed(diagnosis: Diagnosis) -> list[Picture]:
    """The diagnosis alone; maps of one layer for the layer that stands out."""
    rest = [
        picture
        for name, one in diagnostics().items()
        if not one.frequencies and name != "bands"
        for draw in OF[name].values()
        for picture in draw(diagnosis)
    ]
    return [picture for picture in (*by_layer_group(diagnosis), *rest) if picture is not None]


def by_layer_group(diagnosis: Diagnosis) -> list[Picture | None]:
    """What the interpolation does to the frequencies, all of a group of layers that turns before the next group."""
    drawn = [draw(diagnosis) for name, one in diagnostics().items() if one.frequencies for draw in OF[name].values()]
    return [picture for group in zip(*drawn, strict=True) for picture in group]
