"""The section of the interpolation: does the best one change under the quantizer, and what is choosing there worth?"""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from pages.forms.rope_search import rope_search_form
from pages.jobs import evidence
from pages.state import session
from pages.state.clicks import pressed
from pages.state.session import manager
from pages.views.boxes import finding
from pages.views.job_progress import result_or_progress, start_button
from pages.views.labels import rope_words
from pages.views.render import folded, heading, numbers, picture
from qroar_core.escape import literal
from qroar_core.interpolations.registry import stretching
from qroar_core.interpolations.rope_file import rope_text
from qroar_core.models.loaded import LoadedModel
from qroar_core.number_of import number_of
from qroar_core.rope_search import figure as drawn
from qroar_core.rope_search.result import RopeSearch, RopeTrials
from qroar_core.rope_search.run import JUDGED
from qroar_core.setting import Setting
from qroar_core.specs import RopeSearchSpec
from qroar_core.specs.labels import checksum_words

STARTS = "Choose a method and a factor to reach on the Start page: candidates are searched around them."


def rope_search(loaded: LoadedModel, setting: Setting) -> None:
    """The whole section."""
    heading("Does the best interpolation change under the quantizer?", "interpolation-section")
    st.markdown(
        "Every method's own numbers, a factor per pair in LongRoPE's way and how many of the slowest pairs stand still "
        "are searched twice on development text at the context length: in full precision, and under the quantizer. "
        "Both choices are then compared on held-out text, in both conditions."
    )
    if setting.quant.is_none:
        st.info("Nothing is quantized under this setup: choose a quantizer on the Start page.")
        return
    if setting.rope.method == "default":
        st.info(STARTS)
        return
    spec = rope_search_form(setting)
    key = evidence.tune_rope.key(loaded, setting, spec)
    stopped = manager().partial(key)
    if isinstance(stopped, RopeTrials) and stopped.studies:
        _stopped(loaded, setting, spec, stopped)
        return
    start_button("Choose the interpolation", evidence.tune_rope, loaded, setting, spec)
    st.caption(literal(passes(spec, setting.search.length or 0)))
    result = result_or_progress(key)
    if result is not None:
        _render(result)


def passes(spec: RopeSearchSpec, length: int) -> str:
    """What a search costs at most: every pass over development and held-out windows."""
    trials = 2 * spec.most_tried(len(stretching()))
    short = min(spec.short_length or length, length)
    held = f"{JUDGED} over {number_of(spec.heldout_windows, 'held-out window')}"
    return (
        f"At most {number_of(trials, 'pass', 'passes')} over {number_of(spec.windows, 'development window')} of "
        f"{length:,} tokens, then {held} of {length:,} tokens and {held} of {short:,} tokens."
    )


def _stopped(loaded: LoadedModel, setting: Setting, spec: RopeSearchSpec, trials: RopeTrials) -> None:
    """A cancelled search: what it measured is kept, and can be gone on with."""
    known = sum(len(study.trials) for study in trials.studies)
    st.info(
        f"Choose the interpolation for {literal(loaded.name)}: cancelled. "
        f"**{number_of(known, 'tried interpolation')} kept.** Resume measures only what is left.",
        icon=":material/pause_circle:",
    )
    with st.container(horizontal=True):
        if click := pressed("Resume", type="primary", icon=":material/resume:", key="resume rope search"):
            evidence.tune_rope.start(loaded, setting, spec, trials)
            click.over()
        if click := pressed("Start over", icon=":material/restart_alt:", key="restart rope search"):
            evidence.tune_rope.start(loaded, setting, spec)
            click.over()


def _render(result: RopeSearch) -> None:
    verdict, *others = result.sentences
    finding(True if result.worth.above_zero else False if result.worth.below_zero else None, verdict)
    st.markdown("\n".join(f"- {literal(sentence)}" for sentence in others))
    where = literal(checksum_words(result.measured_on))
    st.caption(f"Held-out text: {where}. Paired intervals over windows at {result.confidence:.0%}.")
    _take(result)
    for name, draw in (("rope gains", drawn.gains), ("rope frequencies", drawn.frequencies)):
        picture(draw(result), name)
    numbers(drawn.table(result), "rope choices")
    with folded("Every interpolation that was tried, in each condition") as opened:
        if opened:
            for at, shown in enumerate(drawn.tried(result)):
                picture(shown, f"rope tried {at}")
    for method, why in result.absent.items():
        st.caption(f"{literal(method)} was not tried: {literal(why)}.")


def _take(result: RopeSearch) -> None:
    """The choice made under the quantizer into the setting, where it is better there; and as a file."""
    if result.kept == "setting":
        return
    with st.container(horizontal=True):
        if click := pressed(
            "Use this interpolation",
            icon=":material/check:",
            help=f"Puts {rope_words(result.rope)} into the setup.",
        ):
            session.choose(replace(session.choice(), rope=result.rope))
            click.over()
        st.download_button(
            "Download rope.json",
            rope_text(result.rope),
            "rope.json",
            "application/json",
            key="rope.json",
            on_click="ignore",
            help="Every command takes it as --rope rope.json.",
        )
