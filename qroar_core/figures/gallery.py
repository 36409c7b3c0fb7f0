"""Every picture of a finished run, in the order of the work: what the report prints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from qroar_core.diagnostics.aliasing import figure as aliasing
from qroar_core.diagnostics.anisotropy import figure as anisotropy
from qroar_core.diagnostics.bands import figure as bands
from qroar_core.diagnostics.dilation import figure as dilation
from qroar_core.diagnostics.logit_noise import figure as noise
from qroar_core.diagnostics.logit_noise import figure_scores, figure_split
from qroar_core.diagnostics.outliers import figure as outliers
from qroar_core.diagnostics.outliers import figure_rules as outlier_rules
from qroar_core.diagnostics.outliers import figure_weights as outlier_weights
from qroar_core.diagnostics.pair_error import figure as pair_error
from qroar_core.diagnostics.pressure import figure as pressure
from qroar_core.diagnostics.rounding import figure as rounding
from qroar_core.diagnostics.similarity import figure as similarity
from qroar_core.diagnostics.tails import figure as tails
from qroar_core.figures import angles, quality, search_trace
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
    tuned = [
        scaled.by_layer_and_band(scales),
        angles.by_layer_and_pair(scales),
        search_trace.candidates(search.history, search.objective),
    ]
    alone = bands.alone(diagnosis)
    return {
        "Bands": [] if alone is None else [alone],
        "Diagnosis": diagnosed(diagnosis),
        "Search": [p for p in tuned if p is not None],
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
        dilation.of_band(diagnosis, worst[1], worst[3]),
        *(outliers.layers(diagnosis, "k/post", page) for page in range(outliers.pages(diagnosis))),
        outliers.channel_map(diagnosis, "k/post", layer, outliers.loudest_head(diagnosis, "k/post", layer)),
        *(outlier_rules.counts(diagnosis, which) for which in diagnosis.outliers.count),
        *(outlier_rules.shift(diagnosis, which) for which in diagnosis.outliers.jaccard),
        outlier_rules.error_share(diagnosis),
        outlier_rules.error_by_channel(diagnosis),
        *outlier_weights.every(diagnosis),
        noise.by_group(diagnosis),
        *_each_group(diagnosis, noise.by_position),
        noise.by_layer_and_band(diagnosis),
        *_each_group(diagnosis, noise.by_distance),
        *_each_group(diagnosis, figure_scores.scores),
        *_each_group(diagnosis, figure_split.split),
        figure_split.split(diagnosis, "layer"),
        *_each_group(diagnosis, pair_error.amplitude_and_phase),
        *_each_group(diagnosis, anisotropy.by_angle),
        rounding.lengths(diagnosis),
        similarity.hidden_states(diagnosis),
        similarity.by_position(diagnosis),
        similarity.accumulation(diagnosis),
    ]
    return [picture for picture in drawn if picture is not None]


def by_layer_group(diagnosis: Diagnosis) -> list[Picture]:
    """What the interpolation does to the frequencies, of every group of layers that turns."""
    drawn = []
    for name, view in _views(diagnosis):
        pictures = [pressure.by_band(view), pressure.by_pair(view), aliasing.unseen(view), aliasing.kernel(view)]
        drawn += [_titled(picture, name) for picture in pictures]
    return drawn


def _each_group(diagnosis: Diagnosis, draw: Callable[[Diagnosis], Picture | None]) -> list[Picture]:
    """A picture of what is pooled over layers, of every group that turns; one where the file pools all layers."""
    apart = all(group.noise is not None for group in diagnosis.groups)
    drawn = [(name, draw(view)) for name, view in (_views(diagnosis) if apart else [("", diagnosis)])]
    return [_titled(picture, name) for name, picture in drawn if picture is not None]


def _views(diagnosis: Diagnosis) -> list[tuple[str, Diagnosis]]:
    """Name and view of every group of layers that turns; one without a name where layers are alike."""
    turning = [index for index, group in enumerate(diagnosis.groups) if group.bands]
    return [(diagnosis.groups[i].name, diagnosis.of_group(i)) for i in turning] or [("", diagnosis)]


def _titled(picture: Picture, name: str) -> Picture:
    return replace(picture, title=f"{name[:1].upper()}{name[1:]}: {picture.title}") if name else picture
