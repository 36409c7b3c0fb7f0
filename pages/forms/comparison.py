"""Which remedies are compared: the controls of the Remedies page."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import streamlit as st

from pages.forms.build_spec import build_or_keep, counted
from pages.state.session import beside, keep_beside
from pages.state.widget_state import chosen, fill, number
from pages.views.glossary import term_help
from pages.views.status_bar import verdict_for
from qroar_core.escape import literal
from qroar_core.interpolations.checkpoint_rope import promised_length
from qroar_core.models.loaded import LoadedModel
from qroar_core.remedies.applicable import ApplicableRemedy, applicable_remedies, searches
from qroar_core.remedies.applicable import conditions as counted_conditions
from qroar_core.remedies.layer_memory import budget_of, cache_bytes
from qroar_core.remedies.methods import BY_NAME
from qroar_core.remedies.prepare import why_not
from qroar_core.setting import Setting
from qroar_core.specs import ComparisonSpec, QuantSpec, SearchSpec

KEEPS_LAYERS = {"protected_layers", "first_last_layers"}  # remedies that share the budget


def comparison_form(loaded: LoadedModel, setting: Setting) -> ComparisonSpec:
    """This visitor's spec; another quantizer offers other remedies, and all of them again."""
    offered = [one.method for one in _entered(loaded, setting, ())[1:]]
    reading = [BY_NAME[method] for method in offered if BY_NAME[method].tokens]
    fresh = ComparisonSpec(
        search=setting.search,
        windows=setting.evaluation.windows,
        seed=setting.evaluation.seed,
        fewer=setting.evaluation.fewer,
    )
    same, spec = beside("comparison", setting.quant, fresh)
    spec = replace(spec, search=setting.search) if same else fresh
    shown = tuple(m for m in spec.methods if m in offered) or tuple(offered)
    keeps = bool(KEEPS_LAYERS & set(offered))
    fill(
        "comparison",
        spec,
        {
            "comparison methods": list(shown),
            "comparison windows": spec.windows,
            "comparison band scales": spec.band_scales,
            "comparison cache": int(spec.cache_bytes or (_cache_bytes(loaded, setting)[0] if keeps else 1)),
            "comparison tokens": spec.calibration_tokens or max((one.tokens for one in reading), default=1),
        },
    )
    one, two = st.columns([3, 1], vertical_alignment="bottom")
    picked = one.multiselect(
        "Remedies",
        offered,
        format_func=lambda method: BY_NAME[method].name,
        key="comparison methods",
        help=term_help("Remedy"),
        placeholder="all that apply" if offered else "none applies to this quantizer",
    )
    windows = number(two, "Windows of text", 2, 256, "comparison windows", help=term_help("Window"))
    each = "two searches a remedy: alone, and with angles" if setting.search.angles else "one search a remedy"
    banded = st.checkbox(
        f"Search band scales under each that has no scales of its own ({literal(each)})", key="comparison band scales"
    )
    tokens = spec.calibration_tokens
    if reading:
        names = literal(", ".join(one.name for one in reading))
        asked_tokens = int(number(st, f"Calibration tokens of {names}", 1, 1 << 24, "comparison tokens", step=1024))
        tokens = None if tokens is None and asked_tokens == max(one.tokens for one in reading) else asked_tokens
    memory = spec.cache_bytes
    if keeps:
        usual, least, most = _cache_bytes(loaded, setting)
        asked_bytes = number(
            st,
            "Cache budget for protected layers, bytes per token",
            least,
            most,
            "comparison cache",
            help="The most that the whole K/V cache may take once some layers are kept from quantization; a kept "
            "number takes 16 bits. By default room for an eighth of the layers, two at "
            "least.",
        )
        memory = None if asked_bytes == usual else float(asked_bytes)
    methods = () if len(picked) == len(offered) else tuple(m for m in offered if m in picked)
    now = replace(spec, methods=methods, band_scales=bool(banded), calibration_tokens=tokens, cache_bytes=memory)
    spec = build_or_keep(lambda: replace(now, **counted(spec, windows)), spec)
    asked = (replace(spec, search=SearchSpec()), replace(fresh, search=SearchSpec()))
    keep_beside(setting.quant, chosen("comparison", spec), comparison=asked)
    return spec


def _cache_bytes(loaded: LoadedModel, setting: Setting) -> tuple[int, int, int]:
    """Bytes a token of the K/V cache: the usual budget, without a layer kept, with all of them kept."""
    geo, quant, length = loaded.geometry, setting.quant, setting.search.length or promised_length(loaded, setting.rope)
    usual, least = budget_of(geo, quant, length, None), cache_bytes(geo, quant, length)
    return round(usual), math.ceil(least), math.ceil(cache_bytes(geo, QuantSpec(), length))


def conditions(loaded: LoadedModel, setting: Setting, spec: ComparisonSpec) -> tuple[int, int]:
    """How many conditions are measured, the reference among them, and how many searches are made, at most."""
    entered = _entered(loaded, setting, spec.methods)
    scales = replace(
        setting, search=setting.search.without_maps(angles=False)
    )  # under whom scales act, angles are tried
    acting = [one for one in entered if verdict_for(loaded, replace(scales, quant=one.quant)).acts != "no"]
    on_top = sum(len(searches(spec, one.method)) for one in acting)
    return counted_conditions(entered, on_top), on_top + sum(one.about.searches for one in entered)


def _entered(loaded: LoadedModel, setting: Setting, asked: tuple[str, ...]) -> list[ApplicableRemedy]:
    return applicable_remedies(setting.quant, asked, partial(why_not, loaded=loaded, setting=setting))
