"""Every picture of a finished run, in the order of the work: what the report prints."""

from __future__ import annotations

from dataclasses import replace

from qroar_core.figures import (
    aliasing,
    anisotropy,
    dilation,
    noise,
    outliers,
    pair_error,
    pressure,
    quality,
    search_trace,
    tails,
)
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
        quality.rotation(evaluation),
        quality.divergence(evaluation),
        evaluated.by_position(evaluation),
    ]
    tuned = [scaled.by_layer_and_band(scales), search_trace.candidates(search.history, search.objective)]
    return {
        "Diagnosis": diagnosed(diagnosis),
        "Search": tuned,
        "Evaluation": [p for p in proof if p is not None],
    }


def diagnosed(diagnosis: Diagnosis) -> list[Picture]:
    """The diagnosis alone; maps of one layer for the layer that stands out."""
    worst = tails.worst_cell(diagnosis)
    layer = outliers.loudest_layer(diagnosis, "k/post")
    drawn = [
        *by_layer_group(diagnosis),
        tails.overview(diagnosis),
        tails.survival(diagnosis, worst),
        dilation.by_position(diagnosis, worst[1]),
        *(outliers.layers(diagnosis, "k/post", page) for page in range(outliers.pages(diagnosis))),
        outliers.channel_map(diagnosis, "k/post", layer, outliers.loudest_head(diagnosis, "k/post", layer)),
        *(outliers.shift(diagnosis, which) for which in diagnosis.outliers.jaccard),
        outliers.error_share(diagnosis),
        noise.by_position(diagnosis),
        noise.by_layer_and_band(diagnosis),
        noise.by_distance(diagnosis),
        noise.split(diagnosis, "band"),
        noise.split(diagnosis, "layer"),
        pair_error.amplitude_and_phase(diagnosis),
        anisotropy.by_angle(diagnosis),
        noise.hidden_states(diagnosis),
    ]
    return [picture for picture in drawn if picture is not None]


def by_layer_group(diagnosis: Diagnosis) -> list[Picture]:
    """What the interpolation does to the frequencies, of every group of layers that turns."""
    turning = [index for index, group in enumerate(diagnosis.groups) if group.bands] or [0]
    drawn = []
    for index in turning:
        view = diagnosis.of_group(index)
        pictures = [pressure.by_band(view), pressure.by_pair(view), aliasing.unseen(view), aliasing.kernel(view)]
        if diagnosis.groups:
            name = diagnosis.groups[index].name
            pictures = [replace(p, title=f"{name[:1].upper()}{name[1:]}: {p.title}") for p in pictures]
        drawn += pictures
    return drawn
