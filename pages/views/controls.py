"""The controls section: what stands beside the tuned scales, the button, and what came out."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from pages import jobs
from pages.forms.build_spec import build_or_keep, counted
from pages.jobs import evidence
from pages.state.session import beside, keep_beside
from pages.state.widget_state import chosen, fill, number
from pages.views.boxes import finding
from pages.views.job_progress import result_or_progress, start_button
from pages.views.render import heading, picture
from qroar_core.escape import literal
from qroar_core.evaluation.result import Evaluation
from qroar_core.evaluation.two_gains import why_beside
from qroar_core.evidence.controls import figure as drawn
from qroar_core.evidence.controls.result import Controls
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.own_dtype import DTYPES
from qroar_core.models.text import COLLECTIONS
from qroar_core.number_of import number_of
from qroar_core.scale_search.outcome import SearchOutcome
from qroar_core.setting import Setting
from qroar_core.specs import CONTROL_DTYPES, ControlSpec
from qroar_core.specs.labels import TEXT_WORDS, capital, checksum_words


def controls(loaded: LoadedModel, setting: Setting, outcome: SearchOutcome | None) -> None:
    """The whole section; without tuned scales it says where they come from."""
    heading("Controls", "controls-section")
    st.markdown(
        "Where does the gain come from? Would random scales have done as well? Would scales without a quantizer, "
        "another text or another seed? Is the reference poor? Each is measured beside the gain, on the same held-out "
        "windows."
    )
    if outcome is None:
        st.info("No scales are tuned under this setup yet, so there is no gain to check.")
        st.page_link("pages/tune.py", label="Tune first", icon=":material/arrow_back:")
        return
    if outcome.found.is_identity:
        st.info("The search found no scales but identity: there is no gain to check.")
        return
    spec = _kept_form(loaded, setting)
    key = start_button("Run the controls", evidence.control, loaded, setting, outcome, spec)
    st.caption(literal(_cost(loaded, spec)))
    result = result_or_progress(key)
    if result is not None:
        _render(result)
        _beside(result, jobs.evaluate.result(loaded, setting, outcome))


def _render(result: Controls) -> None:
    for found in result.findings:
        finding(found.good, capital(f"{found.sentence}."))
    where = literal(checksum_words(result.measured_on))
    st.caption(f"Held-out text: {where}. Paired intervals over windows at {result.confidence:.0%}.")
    picture(drawn.forest(result), "controls")
    picture(drawn.number_formats(result), "number formats")


def _beside(result: Controls, evaluation: Evaluation | None) -> None:
    """Why Evaluate shows another gain of the same scales, where it has shown one."""
    gain = next(one.gain.mean for one in result.controls if one.kind == "tuned")
    said = why_beside(evaluation, gain, result.windows, result.length) if evaluation is not None else ""
    if said:
        st.caption(f"{literal(said)}.")


def _kept_form(loaded: LoadedModel, setting: Setting) -> ControlSpec:
    """This visitor's spec; made anew when the setting's text or evaluation windows change."""
    near = (setting.text, setting.evaluation.windows)
    others = tuple(name for name in COLLECTIONS if name != setting.text)
    fresh = ControlSpec(
        windows=setting.evaluation.windows, seeds=(1,), collections=others[:1], fewer=setting.evaluation.fewer
    )
    same, spec = beside("controls", near, fresh)
    spec = _form(loaded, spec if same else fresh, others)
    keep_beside(near, chosen("controls", spec), controls=(spec, fresh))
    return spec


def _form(loaded: LoadedModel, spec: ControlSpec, others: tuple[str, ...]) -> ControlSpec:
    formats = [name for name in CONTROL_DTYPES if DTYPES[name] != loaded.dtype]
    fill(
        "controls",
        spec,
        {
            "controls windows": spec.windows,
            "controls shuffles": spec.shuffles,
            "controls seeds": len(spec.seeds),
            "controls texts": [name for name in spec.collections if name in others],
            "controls formats": [f for f in spec.dtypes if f in formats],
        },
    )
    one, two, three = st.columns(3)
    windows = number(one, "Windows of held-out text", 2, 256, "controls windows")
    shuffles = number(two, "Shuffles of each kind", 1, 50, "controls shuffles")
    seeds = number(three, "Searches with another seed", 0, 10, "controls seeds")
    four, five = st.columns([5, 4])
    texts = four.multiselect(
        "Searches on another text", others, format_func=lambda name: TEXT_WORDS.get(name, name), key="controls texts"
    )
    dtypes = five.multiselect(
        "Number formats",
        formats,
        key="controls formats",
        help="The weights are rounded to this format for this test, and all three models are measured in it.",
    )
    return build_or_keep(
        lambda: replace(
            spec,
            **counted(spec, windows),
            shuffles=int(shuffles),
            seeds=tuple(range(1, int(seeds) + 1)),
            collections=tuple(texts),
            dtypes=tuple(dtypes),
        ),
        spec,
    )


def _cost(loaded: LoadedModel, spec: ControlSpec) -> str:
    searches = len(spec.seeds) + len(spec.collections)
    formats = sum(DTYPES[name] != loaded.dtype for name in spec.dtypes)
    passes = 4 + 2 * spec.shuffles + searches + 3 * formats
    more = f"{number_of(searches, 'more search', 'more searches')}, then " if searches else ""
    return f"{more}{number_of(passes, 'pass', 'passes')} over {number_of(spec.windows, 'window')}."
