"""The quantizer's controls: a named one, or every option by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import streamlit as st

from pages.forms.quantizer import by_hand, fill_by_hand
from pages.state.widget_state import fill
from pages.views.boxes import refused
from pages.views.labels import quant_words
from qroar_core.errors import QRoarError
from qroar_core.escape import literal
from qroar_core.models.family_preset import for_family
from qroar_core.models.geometry import Geometry
from qroar_core.quantizers.large_bias import bias_words
from qroar_core.quantizers.preset import memory_words
from qroar_core.quantizers.presets import KV_PRESETS, WEIGHT_PRESETS, preset_names, preset_quant
from qroar_core.setting import INT3_K, INT4_K
from qroar_core.specs import QuantizerSpec, QuantSpec
from qroar_core.specs.labels import NOTHING_QUANTIZED, capital

BY_HAND = "every option by hand …"
MADE_BY_HAND = "quantizer made by hand"  # the spec the by-hand form made last, so that it stays open on it
NAMED: dict[str, QuantSpec] = {
    "int4 K cache": INT4_K,
    "int3 K cache": INT3_K,
    "int4 K and V cache": QuantSpec(k=QuantizerSpec(4), v=QuantizerSpec(4), name="int4 K and V cache"),
    "nothing quantized": QuantSpec(),
    **{name: preset_quant(name) for name in preset_names()},
}


def quant_form(quant: QuantSpec, family: str) -> QuantSpec:
    """A preset or, by hand, weights, K, V and q/k. `family` is the one that presets are written for."""
    alike = [name for name, spec in NAMED.items() if for_family(spec, family) == quant]
    mine = quant.name if quant.name in alike else next(iter(alike), BY_HAND)  # runtimes share some quantizers
    held = st.session_state.get(MADE_BY_HAND) == quant
    fill("quantizer", quant, {"quantizer": BY_HAND if held else mine})
    picked = st.selectbox("Quantizer", [*NAMED, BY_HAND], key="quantizer")
    if picked != BY_HAND:
        st.session_state.pop(MADE_BY_HAND, None)
        _cite(picked)
        return for_family(NAMED[picked], family)
    fill_by_hand(quant)
    try:
        made = by_hand(family)
    except QRoarError as problem:
        refused(f"{problem.what}. {quant_words(quant)} stays in force.")
        return quant
    st.session_state[MADE_BY_HAND] = made
    return made


def kept_layers_form(quant: QuantSpec, kept: Sequence[int], geometry: Geometry) -> QuantSpec:
    """The quantizer with layers whose cache it leaves as it is; nothing is asked where no cache is quantized.

    Args:
        kept: the layers of the setup in force.
    """
    if quant.k is None and quant.v is None:
        return quant
    fill("kept layers", tuple(kept), {"kept layers": list(kept)})
    picked = st.multiselect(
        "Layers whose K/V cache is kept",
        geometry.decoder_numbers,
        key="kept layers",
        placeholder="none",
        help="Counted from 0, as vLLM's --kv-cache-dtype-skip-layers. The Remedies page measures which are worth it.",
    )
    if len(picked) == len(geometry.decoder_numbers):
        st.caption(literal(f"{capital(NOTHING_QUANTIZED)}."))
    return replace(quant, keep_layers=tuple(picked))


def _cite(name: str) -> None:
    cache = KV_PRESETS.get(name)
    preset = cache or WEIGHT_PRESETS.get(name)
    size = f"{memory_words(cache)} {bias_words(cache.k)} " if cache else ""
    note = f"{size}{preset.note} Read from {preset.source}." if preset else ""
    st.caption(literal(f"{quant_words(NAMED[name])}. {note}"))
