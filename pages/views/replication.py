"""The replication section: under which settings the papers' claims are tested, and what came out."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from pages.forms.build_spec import build_or_keep, counted
from pages.forms.setting import FIRST_FACTOR
from pages.jobs import evidence
from pages.state.choice import Claims
from pages.state.session import beside, keep_beside
from pages.state.widget_state import chosen, fill, number
from pages.views.job_progress import result_or_progress, start_button
from pages.views.labels import quant_words, rope_words
from pages.views.render import heading, picture
from qroar_core.escape import literal
from qroar_core.evidence.replication import figure as drawn
from qroar_core.interpolations.registry import stretching
from qroar_core.models.loaded import LoadedModel
from qroar_core.number_of import number_of
from qroar_core.setting import INT3_K, INT4_K, Setting
from qroar_core.specs import QuantSpec, ReplicationSpec, RopeSpec, WeightQuantSpec
from qroar_core.specs.labels import checksum_words

ONE_FACTOR = tuple(name for name, method in stretching().items() if not method.takes_lists)  # need nothing but a factor
OFFERED = (INT4_K, INT3_K, QuantSpec(weights=WeightQuantSpec(4)))


def replication(loaded: LoadedModel, setting: Setting) -> None:
    """The whole section."""
    heading("Do the papers' claims hold here?", "claims")
    st.markdown(
        "Each claim is a rule with a threshold, tested on this model and text under every setup chosen, with its "
        "figure and interval. What the interval leaves open is called undecided."
    )
    if setting.quant.is_none:
        st.info("Nothing is quantized under this setup: choose a quantizer on the Start page.")
        return
    pairs, spec = _kept_form(setting)
    key = start_button("Test the claims", evidence.replicate, loaded, setting, pairs, spec)
    st.caption(
        f"{number_of(len(pairs), 'setup')}; each takes a diagnosis, a search and up to 8 passes over "
        f"{number_of(spec.windows, 'window')}."
    )
    result = result_or_progress(key)
    if result is not None:
        picture(drawn.matrix(result), "replication")
        where = literal(checksum_words(result.measured_on))
        st.caption(f"Held-out text: {where}. Scales and bounds come from calibration text.")


def _kept_form(setting: Setting) -> tuple[evidence.Pairs, ReplicationSpec]:
    """What is tested; made anew when the setting's interpolation, quantizer or evaluation windows change."""
    near = (setting.rope, setting.quant, setting.evaluation.windows)
    own = setting.rope.method == "default"
    other = "linear" if setting.rope.method != "linear" else "yarn"
    factor = FIRST_FACTOR if own else setting.rope.factor
    tie = setting.rope.tie
    offered = [RopeSpec(method, factor, tie=tie) for method in ONE_FACTOR] + ([] if own else [setting.rope])
    ropes = {rope_words(rope): rope for rope in offered}
    quants = {quant_words(quant): quant for quant in (*OFFERED, setting.quant)}
    fresh = Claims(
        (*(() if own else (setting.rope,)), RopeSpec(other, factor, tie=tie)),
        (setting.quant,),
        ReplicationSpec(windows=setting.evaluation.windows, fewer=setting.evaluation.fewer),
    )
    same, kept = beside("claims", near, fresh)
    kept = _offered(kept, fresh, ropes, quants) if same else fresh
    asked = _form(kept, ropes, quants)
    keep_beside(near, chosen("replication", asked), claims=(asked, fresh))
    return tuple((rope, quant) for quant in asked.quants for rope in asked.ropes), asked.spec


def _offered(kept: Claims, fresh: Claims, ropes: dict[str, RopeSpec], quants: dict[str, QuantSpec]) -> Claims:
    """What of an address is in the menus; where nothing is, what they start with."""
    return replace(
        kept,
        ropes=tuple(rope for rope in kept.ropes if rope in ropes.values()) or fresh.ropes,
        quants=tuple(quant for quant in kept.quants if quant in quants.values()) or fresh.quants,
    )


def _form(kept: Claims, ropes: dict[str, RopeSpec], quants: dict[str, QuantSpec]) -> Claims:
    fill(
        "replication",
        kept,
        {
            "replication ropes": [rope_words(rope) for rope in kept.ropes],
            "replication quants": [quant_words(quant) for quant in kept.quants],
            "replication windows": kept.spec.windows,
        },
    )
    one, two, three = st.columns([2, 2, 1])
    asked = one.multiselect("Interpolations", list(ropes), key="replication ropes")
    rounded = two.multiselect("Quantizers", list(quants), key="replication quants")
    windows = number(three, "Windows of text", 2, 256, "replication windows")
    if not (asked and rounded):
        st.warning("Choose at least one interpolation and one quantizer; until then the earlier ones stay.")
    spec = build_or_keep(lambda: replace(kept.spec, **counted(kept.spec, windows)), kept.spec)
    return Claims(
        tuple(ropes[name] for name in asked) or kept.ropes, tuple(quants[name] for name in rounded) or kept.quants, spec
    )
