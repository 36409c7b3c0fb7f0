"""Which remedies meet: the controls of the Rivals page."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from pages.parts.follow import chosen, fill, number
from pages.parts.forms import counted, made
from pages.parts.session import beside, keep_beside
from pages.parts.strip import verdict_for
from qroar_core.contending.contenders import contenders
from qroar_core.escape import literal
from qroar_core.models.loaded import LoadedModel
from qroar_core.results.league import ABOUT
from qroar_core.runs.setting import Setting
from qroar_core.specs import METHODS, LeagueSpec, SearchSpec


def league_form(setting: Setting) -> LeagueSpec:
    """This visitor's spec; another quantizer offers other remedies, and all of them again."""
    offered = [one.method for one in contenders(setting.quant, ())[1:]]
    fresh = LeagueSpec(search=setting.search, windows=setting.evaluation.windows, seed=setting.evaluation.seed,
                       fewer=setting.evaluation.fewer)  # fmt: skip
    same, spec = beside("league", setting.quant, fresh)
    spec = replace(spec, search=setting.search) if same else fresh
    shown = tuple(m for m in spec.methods if m in offered) or tuple(offered)
    fill("league", spec, {"league methods": list(shown), "league windows": spec.windows,
                             "league band scales": spec.band_scales})  # fmt: skip
    one, two = st.columns([3, 1], vertical_alignment="bottom")
    picked = one.multiselect("Remedies", offered, format_func=lambda method: ABOUT[method].name, key="league methods",
                             placeholder="all that apply" if offered else "none applies to this quantizer")  # fmt: skip
    windows = number(two, "Windows of text", 2, 256, "league windows")
    each = "two searches a remedy: alone, and with angles" if setting.search.angles else "one search a remedy"
    banded = st.checkbox(f"Search band scales under each ({literal(each)})", key="league band scales")
    methods = () if len(picked) == len(offered) else tuple(m for m in METHODS if m in picked)
    spec = made(lambda: replace(spec, methods=methods, **counted(spec, windows), band_scales=bool(banded)), spec)
    chosen("league", spec)
    keep_beside("league", setting.quant, *(replace(asked, search=SearchSpec()) for asked in (spec, fresh)))
    return spec


def conditions(loaded: LoadedModel, setting: Setting, spec: LeagueSpec) -> tuple[int, int]:
    """How many conditions are measured, the reference among them, and how many searches are made."""
    entered = contenders(setting.quant, spec.methods)
    scales = replace(setting, search=replace(setting.search, angles=False))  # under whom scales act, angles are tried
    acting = [one for one in entered if verdict_for(loaded, replace(scales, quant=one.quant)).acts != "no"]
    searched = sum(len(spec.tops(one.method)) for one in acting)
    return 1 + len(entered) + searched, searched
