"""Which remedies meet: the controls of the Rivals page."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from pages.parts.follow import fill, number
from pages.parts.forms import counted, made
from pages.parts.strip import verdict_for
from qroar_core.contending.contenders import contenders
from qroar_core.escape import literal
from qroar_core.models.loaded import LoadedModel
from qroar_core.results.league import ABOUT
from qroar_core.runs.setting import Setting
from qroar_core.specs import METHODS, LeagueSpec

KEPT = "league kept"  # session: (setting it was made under, spec)


def league_form(setting: Setting) -> LeagueSpec:
    """This visitor's spec; another quantizer offers other remedies, and all of them again."""
    offered = [one.method for one in contenders(setting.quant, ())[1:]]
    fresh = LeagueSpec(search=setting.search, windows=setting.evaluation.windows, seed=setting.evaluation.seed,
                       fewer=setting.evaluation.fewer)  # fmt: skip
    before, spec = st.session_state.get(KEPT, (setting, fresh))
    if before != setting:
        spec = fresh if before.quant != setting.quant else replace(spec, search=setting.search)
    shown = spec.methods or tuple(offered)
    fill("league", setting, {"league methods": list(shown), "league windows": spec.windows,
                             "league band scales": spec.band_scales})  # fmt: skip
    one, two = st.columns([3, 1], vertical_alignment="bottom")
    chosen = one.multiselect("Remedies", offered, format_func=lambda method: ABOUT[method].name, key="league methods",
                             placeholder="all that apply" if offered else "none applies to this quantizer")  # fmt: skip
    windows = number(two, "Windows of text", 2, 256, "league windows")
    each = "two searches a remedy: alone, and with angles" if setting.search.angles else "one search a remedy"
    banded = st.checkbox(f"Search band scales under each ({literal(each)})", key="league band scales")
    methods = () if len(chosen) == len(offered) else tuple(m for m in METHODS if m in chosen)
    spec = made(lambda: replace(spec, methods=methods, **counted(spec, windows), band_scales=bool(banded)), spec)
    st.session_state[KEPT] = (setting, spec)
    return spec


def conditions(loaded: LoadedModel, setting: Setting, spec: LeagueSpec) -> tuple[int, int]:
    """How many conditions are measured, the reference among them, and how many searches are made."""
    entered = contenders(setting.quant, spec.methods)
    scales = replace(setting, search=replace(setting.search, angles=False))  # under whom scales act, angles are tried
    acting = [one for one in entered if verdict_for(loaded, replace(scales, quant=one.quant)).acts != "no"]
    searched = sum(len(spec.tops(one.method)) for one in acting)
    return 1 + len(entered) + searched, searched
