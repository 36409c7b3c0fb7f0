"""The quantizer's controls: a named one, or every option by hand."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from pages.parts.forms import made
from pages.parts.words import quant_words
from qroar_core.presets import KV_PRESETS, WEIGHT_PRESETS, parse_cache_option, preset_names, preset_quant
from qroar_core.runs.setting import INT3_K, INT4_K
from qroar_core.specs import QuantizerSpec, QuantSpec, WeightQuantSpec

BY_HAND, IN_USE = "every option by hand …", "as in the link"
INTS = [f"int{bits}" for bits in range(2, 9)]
NAMED: dict[str, QuantSpec] = {
    "int4 K cache": INT4_K,
    "int3 K cache": INT3_K,
    "int4 K and V cache": QuantSpec(k=QuantizerSpec(4), v=QuantizerSpec(4), name="int4 K and V cache"),
    "nothing quantized": QuantSpec(),
    **{name: preset_quant(name) for name in preset_names()},
}


def quant_form(quant: QuantSpec) -> QuantSpec:
    """A preset or, by hand, weights, K, V and q/k."""
    mine = next((name for name, spec in NAMED.items() if spec == quant), None)
    names = [*NAMED, BY_HAND]
    if mine is None and st.session_state.get("quantizer") != BY_HAND:
        names.append(IN_USE)
        mine = IN_USE
    picked = st.selectbox("Quantizer", names, names.index(mine or BY_HAND), key="quantizer")
    if picked == IN_USE:
        return quant
    if picked != BY_HAND:
        _cite(picked)
        return NAMED[picked]
    return made(_by_hand, quant)


def _cite(name: str) -> None:
    preset = KV_PRESETS.get(name) or WEIGHT_PRESETS.get(name)
    st.caption(f"{quant_words(NAMED[name])}. {f'{preset.note} Read from {preset.source}.' if preset else ''}")


def _by_hand() -> QuantSpec:
    one, two, three, four = st.columns(4)
    k_name = one.selectbox("K cache", ["none", *INTS, *KV_PRESETS], 3, key="k")
    v_name = two.selectbox("V cache", ["none", *INTS, *KV_PRESETS], 0, key="v")
    weights = three.selectbox("Weights", ["none", *INTS, *WEIGHT_PRESETS], 0, key="weights")
    qk = four.selectbox("q and k activations", ["none", *INTS], 0, key="qk")
    scale = one.selectbox("A cache scale covers a", ["token", "channel", "tensor", "block"], key="kv scale")
    rotation = two.selectbox("Rotation before rounding", ["none", "hadamard"], key="kv rotation")
    weight_scale = three.selectbox("A weight scale covers a", ["channel", "tensor", "group"], key="weight scale")
    early = four.checkbox("K before RoPE", key="before rope")
    group = one.number_input("Cache group size", 2, 1024, 32, key="kv group", disabled=scale in ("token", "tensor"))
    rows = three.number_input("Weight group size", 2, 4096, 128, key="weight group", disabled=weight_scale != "group")
    group_size = int(group) if scale in ("block", "channel") else None
    k = _cache(k_name, "k", scale, group_size, rotation)
    return QuantSpec(
        weights=_weights(weights, weight_scale, int(rows)),
        k=replace(k, before_rope=True) if k and early else k,
        v=_cache(v_name, "v", scale, group_size, rotation),
        qk=None if qk == "none" else QuantizerSpec(int(qk[3:])),
    )


def _cache(name: str, tensor, scale, group_size, rotation) -> QuantizerSpec | None:
    if not name.startswith("int"):  # a preset brings its own scales and rotation
        return parse_cache_option(name, tensor)
    return parse_cache_option(name, tensor, kv_scale=scale, group_size=group_size, kv_rotation=rotation)


def _weights(name: str, scale, group_size: int) -> WeightQuantSpec | None:
    if name in WEIGHT_PRESETS:
        return WEIGHT_PRESETS[name].weights
    return None if name == "none" else WeightQuantSpec(int(name[3:]), scale, group_size)
