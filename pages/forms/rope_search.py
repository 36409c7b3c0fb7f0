"""How many interpolations are tried, and on how much text: the controls of that section of the Evidence page."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from pages.forms.build_spec import build_or_keep
from pages.state.session import beside, keep_beside
from pages.state.widget_state import chosen, fill, number
from pages.views.glossary import term_help
from qroar_core.setting import Setting
from qroar_core.specs import RopeSearchSpec

FEWEST = 6  # trials: as many as there are methods to stretch RoPE


def rope_search_form(setting: Setting) -> RopeSearchSpec:
    """This visitor's spec; made anew when the setting's lengths or evaluation windows change."""
    short = setting.diagnosis.short_length
    near = (setting.search.length, short, setting.evaluation.windows)
    fresh = RopeSearchSpec(
        length=setting.search.length,
        heldout_windows=setting.evaluation.windows,
        short_length=short,
        seed=setting.search.seed,
        fewer=True,
    )
    same, spec = beside("rope_search", near, fresh)
    spec = replace(spec, length=fresh.length, short_length=fresh.short_length) if same else fresh
    fill(
        "rope search",
        spec,
        {
            "rope trials": spec.trials,
            "rope windows": spec.windows,
            "rope heldout windows": spec.heldout_windows,
        },
    )
    one, two, three = st.columns(3)
    trials = number(
        one,
        "Interpolations in each condition",
        FEWEST,
        10_000,
        "rope trials",
        help="Every method at its published numbers among them.",
    )
    windows = number(two, "Windows of development text", 1, 256, "rope windows", help=term_help("Window"))
    held = number(three, "Windows of held-out text", 2, 256, "rope heldout windows", help=term_help("Held-out"))
    counts = {"trials": int(trials), "windows": int(windows), "heldout_windows": int(held)}
    usual = (counts["windows"], counts["heldout_windows"]) == (spec.windows, spec.heldout_windows)
    spec = build_or_keep(lambda: replace(spec, **counts, fewer=spec.fewer and usual), spec)
    keep_beside(near, chosen("rope search", spec), rope_search=(spec, fresh))
    return spec
