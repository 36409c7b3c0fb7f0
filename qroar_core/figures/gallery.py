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
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.diagnostics.rounding import figure as rounding
from qroar_core.diagnostics.similarity import figure as similarity
from qroar_core.diagnostics.tails import figure as tails
from qroar_core.evaluation import figure as evaluated
from qroar_core.evaluation import figure_kl
from qroar_core.evaluation.result import Evaluation
from qroar_core.figures.picture import Picture
from qroar_core.scale_search import figure as search_trace
from qroar_core.scale_search.result import SearchReport
from qroar_core.transforms import figure as scaled
from qroar_core.transforms import figure_angles
from qroar_core.transforms.result import ScalesFile

Draw = Callable[[Diagnosis], list[Picture | None]]


def gallery(
    diagnosis: Diagnosis, search: SearchReport, scales: ScalesFile, evaluation: Evaluation
) -> dict[str, list[Picture]]:
    """Chapter title -> pictures."""
    proof = [
        evaluated.perplexity_by_length(evaluation),
        evaluated.cost_by_length(evaluation),
        evaluated.gain_and_attribution(evaluation),
        figure_kl.rotation(evaluation),
        figure_kl.divergence(evaluation),
        evaluated.by_position(evaluation),
    ]
    tuned = [
        scaled.by_layer_and_band(scales),
        figure_angles.by_layer_and_pair(scales),
        search_trace.candidates(search.history, search.objective),
    ]
    return {
        "Bands": [picture for picture in DIAGNOSIS["band_cost"](diagnosis) if picture is not None],
        "Diagnosis": diagnosed(diagnosis),
        "Search": [p for p in tuned if p is not None],
        "Evaluation": [p for p in proof if p is not None],
    }


def diagnosed(diagnosis: Diagnosis) -> list[Picture]:
    """The diagnosis alone; maps of one layer for the layer that stands out."""
    rest = [
        picture
        for name in DIAGNOSIS
        if name not in (*FREQUENCIES, "band_cost")
        for picture in DIAGNOSIS[name](diagnosis)
    ]
    return [picture for picture in (*by_layer_group(diagnosis), *rest) if picture is not None]


def by_layer_group(diagnosis: Diagnosis) -> list[Picture]:
    """What the interpolation does to the frequencies, of every group of layers that turns."""
    return [_titled(draw(view), name) for name, view in _views(diagnosis) for draw in FREQUENCIES.values()]


def _each_group(draw: Callable[[Diagnosis], Picture | None]) -> Draw:
    """A picture of what is pooled over layers, of every group that turns; one where the file pools all layers."""

    def drawn(diagnosis: Diagnosis) -> list[Picture | None]:
        apart = all(group.noise is not None for group in diagnosis.groups)
        shown = [(name, draw(view)) for name, view in (_views(diagnosis) if apart else [("", diagnosis)])]
        return [_titled(picture, name) for name, picture in shown if picture is not None]

    return drawn


def _frequencies(draw: Callable[[Diagnosis], Picture]) -> Draw:
    """A picture of what frequencies alone decide, of every group that turns."""
    return lambda diagnosis: [_titled(draw(view), name) for name, view in _views(diagnosis)]


def _survival(diagnosis: Diagnosis) -> list[Picture | None]:
    return [tails.survival(diagnosis, tails.worst_cell(diagnosis))]


def _dilation(diagnosis: Diagnosis) -> list[Picture | None]:
    worst = tails.worst_cell(diagnosis)
    return [dilation.by_position(diagnosis, worst[1]), dilation.of_band(diagnosis, worst[1], worst[3])]


def _outliers(diagnosis: Diagnosis) -> list[Picture | None]:
    which, layer = "k/post", outliers.loudest_layer(diagnosis, "k/post")
    overview = [outliers.layers(diagnosis, which, page) for page in range(outliers.pages(diagnosis))]
    return [*overview, outliers.channel_map(diagnosis, which, layer, outliers.loudest_head(diagnosis, which, layer))]


def _outlier_counts(diagnosis: Diagnosis) -> list[Picture | None]:
    return [outlier_rules.counts(diagnosis, which) for which in diagnosis.outliers.count]


def _outlier_shift(diagnosis: Diagnosis) -> list[Picture | None]:
    return [outlier_rules.shift(diagnosis, which) for which in diagnosis.outliers.jaccard]


def _outlier_error(diagnosis: Diagnosis) -> list[Picture | None]:
    return [outlier_rules.error_share(diagnosis), outlier_rules.error_by_channel(diagnosis)]


def _hidden_states(diagnosis: Diagnosis) -> list[Picture | None]:
    return [similarity.hidden_states(diagnosis), similarity.by_position(diagnosis)]


def _views(diagnosis: Diagnosis) -> list[tuple[str, Diagnosis]]:
    """Name and view of every group of layers that turns; one without a name where layers are alike."""
    turning = [index for index, group in enumerate(diagnosis.groups) if group.bands]
    return [(diagnosis.groups[i].name, diagnosis.of_group(i)) for i in turning] or [("", diagnosis)]


def _titled(picture: Picture, name: str) -> Picture:
    return replace(picture, title=f"{name[:1].upper()}{name[1:]}: {picture.title}") if name else picture


FREQUENCIES: dict[str, Callable[[Diagnosis], Picture]] = {  # computed from frequencies alone
    "pressure": pressure.by_band,
    "pressure_by_pair": pressure.by_pair,
    "aliasing": aliasing.unseen,
    "aliasing_kernel": aliasing.kernel,
}
DIAGNOSIS: dict[str, Draw] = {  # every figure of a diagnosis by the name that the library knows it by
    **{name: _frequencies(draw) for name, draw in FREQUENCIES.items()},
    "tails": lambda diagnosis: [tails.overview(diagnosis)],
    "tails_survival": _survival,
    "dilation": _dilation,
    "outliers": _outliers,
    "outlier_counts": _outlier_counts,
    "outlier_shift": _outlier_shift,
    "outlier_error": _outlier_error,
    "outlier_weights": lambda diagnosis: list(outlier_weights.every(diagnosis)),
    "logit_noise_by_group": lambda diagnosis: [noise.by_group(diagnosis)],
    "logit_noise": _each_group(noise.by_position),
    "logit_noise_by_layer": lambda diagnosis: [noise.by_layer_and_band(diagnosis)],
    "logit_noise_by_distance": _each_group(noise.by_distance),
    "attention_scores": _each_group(figure_scores.scores),
    "logit_noise_split": _each_group(figure_split.split),
    "logit_noise_split_by_layer": lambda diagnosis: [figure_split.split(diagnosis, "layer")],
    "pair_error": _each_group(pair_error.amplitude_and_phase),
    "anisotropy": _each_group(anisotropy.by_angle),
    "rounding": lambda diagnosis: [rounding.lengths(diagnosis)],
    "hidden_states": _hidden_states,
    "error_accumulation": lambda diagnosis: [similarity.accumulation(diagnosis)],
    "band_cost": lambda diagnosis: [bands.alone(diagnosis)],
}
