"""One candidate: what is known of it, its gain, Apply and Undo, and its map."""

from __future__ import annotations

import streamlit as st

from pages import jobs
from pages.forms.apply_scales import patch_buttons
from pages.forms.bands import STEP
from pages.state.candidates import FOUND, HAND, set_manual
from pages.state.choice import REACH
from pages.state.clicks import carried_out, pressed
from pages.views.job_progress import result_or_progress, running
from pages.views.render import picture
from qroar_core.escape import literal
from qroar_core.interpolations.tie import COUNTED
from qroar_core.models.loaded import LoadedModel
from qroar_core.scale_search.outcome import SearchOutcome
from qroar_core.scale_search.problem import SearchPlan
from qroar_core.setting import Setting
from qroar_core.specs.labels import capital
from qroar_core.statistics.intervals import NO_GAIN
from qroar_core.transforms.figures import figures_of
from qroar_core.transforms.file import to_file
from qroar_core.transforms.registry import kinds
from qroar_core.transforms.scales import Scales, pooled


def candidate_detail(
    loaded: LoadedModel,
    setting: Setting,
    plan: SearchPlan,
    outcome: SearchOutcome | None,
    offered: dict[str, tuple[Scales, str]],
    picked: str,
) -> None:
    """Draw the candidate `picked` of `offered`."""
    scales, said = offered[picked]
    gain = _gain_words(loaded, setting, scales)
    ours = f" **{literal(gain)}**" if gain else ""
    if gain and setting.rope.tie:
        ours += f" {literal(capital(COUNTED))}."
    st.markdown(f"**{literal(capital(picked))}.** {literal(said)}{ours}")
    # what the search decided by stands there already
    told = picked == FOUND and outcome is not None and not outcome.report.cancelled
    with st.container(horizontal=True):
        if not told:
            _measure(loaded, setting, scales)
        if picked != HAND:
            st.button(
                "Copy to by hand",
                on_click=_copy,
                args=(plan, scales),
                icon=":material/content_copy:",
                help="The mean over layers and heads of each band's log2 g",
            )
    if not told and jobs.measure_gain.result(loaded, setting, scales) is None:
        result_or_progress(jobs.measure_gain.key(loaded, setting, scales))
    patch_buttons(loaded, setting, scales, offered)
    content = to_file(loaded, setting.rope, setting.quant, scales)
    for name, drawn in figures_of(content).items():
        picture(drawn, kinds()[name].label)


@carried_out
def _copy(plan: SearchPlan, scales: Scales) -> None:
    """Called before the page is drawn again: a slider takes no value from outside once it is drawn."""
    mean = pooled(scales.g.log2(), "model")[0, 0].clamp(-REACH, REACH)
    steps = tuple(round(round(x / STEP) * STEP, 2) + 0.0 for x in mean.tolist())  # what table and sliders can stand at
    set_manual(plan.none.bands, plan.none.mode, steps)


def _measure(loaded: LoadedModel, setting: Setting, scales: Scales) -> None:
    if jobs.measure_gain.result(loaded, setting, scales) is not None:
        return
    idle = scales.is_identity or running(jobs.measure_gain.key(loaded, setting, scales))
    if click := pressed(
        "Measure the gain",
        icon=":material/balance:",
        disabled=idle,
        help="On development text",
    ):
        jobs.measure_gain.start(loaded, setting, scales)
        click.over()


def _gain_words(loaded: LoadedModel, setting: Setting, scales: Scales) -> str:
    gain = jobs.measure_gain.result(loaded, setting, scales)
    if gain is None:
        return ""
    return f"Significant gain: {gain.measured}." if gain.significant else f"{NO_GAIN.capitalize()} ({gain.measured})."
