"""The prediction section: does the diagnosis tell which bands cost most, and what each costs alone?"""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from pages.forms.build_spec import build_or_keep, counted
from pages.jobs import evidence
from pages.state.session import beside, keep_beside
from pages.state.widget_state import chosen, fill, number
from pages.views.boxes import finding
from pages.views.job_progress import result_or_progress, start_button
from pages.views.render import heading, picture
from qroar_core.errors import QRoarError
from qroar_core.escape import code, literal
from qroar_core.evidence.prediction import figure as drawn
from qroar_core.evidence.prediction.result import Prediction
from qroar_core.evidence.prediction.run import require_bands
from qroar_core.models.loaded import LoadedModel
from qroar_core.number_of import number_of
from qroar_core.setting import Setting
from qroar_core.specs import DiagnosisSpec, PredictionSpec
from qroar_core.specs.labels import TEXT_WORDS, checksum_words

COUNTS = (4, 8, 16, 32)  # bands offered


def draw(loaded: LoadedModel, setting: Setting) -> None:
    """The whole section."""
    heading("Do the diagnostics predict?", "prediction")
    st.markdown(
        "Each band of K is rounded alone, the others left exact, and what that costs in NLL is ranked against each "
        "diagnostic of the band."
    )
    try:
        require_bands(setting.quant)
    except QRoarError as problem:
        st.info(f"Not under this setup: {literal(problem.what)}. Choose another quantizer on the Start page.")
        return
    asked, spec = _kept_form(loaded, setting)
    key = start_button("Round each band alone", evidence.predict, loaded, setting, asked, spec)
    map_words = f", and backward passes over {spec.grid_windows} for the map by layer" if spec.grid_windows else ""
    st.caption(
        f"A diagnosis in these bands, then {asked.bands.count + 2:d} passes over "
        f"{number_of(spec.windows, 'window')} of {spec.length:,} tokens{literal(map_words)}."
    )
    result = result_or_progress(key)
    if result is not None:
        _render(result, setting)


def _render(result: Prediction, setting: Setting) -> None:
    pressure = next(d for d in result.diagnostics if d.name == "interpolation_pressure")
    proven = pressure.by_band is not None and pressure.by_band.low > 0
    finding(proven, f"{result.headline}.")
    st.markdown("\n".join(f"- {literal(sentence)}." for sentence in result.findings))
    named = f", {TEXT_WORDS[setting.text]}" if setting.text in TEXT_WORDS else ""
    st.caption(
        f"Costs on held-out text of {code(setting.text)}{literal(named)}; diagnosed on calibration "
        f"text. {literal(checksum_words(result.measured_on))}."
    )
    for at, shown in enumerate(drawn.pictures(result)):
        picture(shown, f"predicted {at}")


def kept(loaded: LoadedModel, setting: Setting) -> Prediction | None:
    """This visitor's prediction in the setting's own bands, marked if from elsewhere; None: not made yet."""
    _, (asked, spec) = _remembered(setting)
    same = asked.bands == setting.diagnosis.bands
    return evidence.predict.marked(loaded, setting, asked, spec) if same else None


def _kept_form(loaded: LoadedModel, setting: Setting) -> tuple[DiagnosisSpec, PredictionSpec]:
    """This visitor's bands and spec; made anew when the diagnosis or the evaluation's windows change."""
    near, kept = _remembered(setting)
    asked, spec = _form(loaded, kept)
    keep_beside(
        near,
        chosen("prediction", (asked.bands, spec)),
        prediction=(spec, _fresh(setting)),
        prediction_bands=(asked.bands, setting.diagnosis.bands),
    )
    return asked, spec


def _remembered(setting: Setting) -> tuple[tuple, tuple[DiagnosisSpec, PredictionSpec]]:
    near = (setting.diagnosis, setting.evaluation.windows)
    fresh = _fresh(setting)
    same, spec = beside("prediction", near, fresh)
    _, bands = beside("prediction_bands", near, setting.diagnosis.bands)
    kept = replace(setting.diagnosis, bands=bands), replace(spec, length=fresh.length)
    return near, kept if same else (setting.diagnosis, fresh)


def _fresh(setting: Setting) -> PredictionSpec:
    length = setting.diagnosis.length or setting.search.length
    return PredictionSpec(length=length, windows=setting.evaluation.windows, fewer=setting.evaluation.fewer)


def _form(loaded: LoadedModel, kept: tuple[DiagnosisSpec, PredictionSpec]) -> tuple:
    asked, spec = kept
    fill(
        "prediction",
        (asked.bands, spec),
        {
            "prediction bands": asked.bands.count,
            "prediction windows": spec.windows,
            "prediction map windows": spec.grid_windows,
        },
    )
    one, two, three = st.columns(3)
    offered = sorted({*(n for n in COUNTS if n <= loaded.geometry.n_pairs), asked.bands.count})
    count = one.selectbox(
        "Bands",
        offered,
        key="prediction bands",
        help="More bands give the correlation more points, but each costs less and is harder to measure.",
    )
    windows = number(two, "Windows of held-out text", 2, 256, "prediction windows")
    near_windows = number(
        three,
        "Windows for the map by layer",
        0,
        64,
        "prediction map windows",
        help="A backward pass each; 0 leaves the map out.",
    )
    bands = asked.bands if count == asked.bands.count else replace(asked.bands, count=int(count))
    return build_or_keep(
        lambda: (replace(asked, bands=bands), replace(spec, **counted(spec, windows), grid_windows=int(near_windows))),
        kept,
    )
