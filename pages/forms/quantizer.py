"""Every field of a quantizer by hand: K cache, V cache, weights, q and k, and what linears read, a tab each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_type_hints

import streamlit as st

from pages.state.widget_state import fill, number
from pages.views.glossary import term_help
from pages.views.labels import quantizer_words, weight_words
from qroar_core.escape import literal
from qroar_core.models.family_preset import for_family
from qroar_core.quantizers.grids import GRIDS
from qroar_core.quantizers.large_bias import bias_words
from qroar_core.quantizers.parse import DEFAULT_BLOCK
from qroar_core.quantizers.preset import memory_words
from qroar_core.quantizers.presets import KV_PRESETS, WEIGHT_PRESETS, preset_quant
from qroar_core.specs import QuantizerSpec, QuantSpec, ScaleAxis, ScaleDtype, WeightQuantSpec

INTS = [f"int{bits}" for bits in range(2, 9)]
FLOATS = [name for name, levels in GRIDS.items() if levels.width]  # they bring their number of bits
TABS = {"k": "K cache", "v": "V cache", "weights": "Weights", "qk": "q and k", "activations": "Linear inputs"}
ORDER_WORDS = {"model": "the model's", "interleaved": "interleaved pairs (llama.cpp)"}
AUTO = "the largest that fits"
ROTATION_BLOCKS = [2**n for n in range(1, 11)]
INT4_QUANTIZER = QuantizerSpec(4)
MOST = 2**20
Spec = TypeVar("Spec", QuantizerSpec, WeightQuantSpec)


def fill_by_hand(quant: QuantSpec) -> None:
    """Fill every field from `quant`; those of a tensor that is not quantized from int4 per token."""
    values: dict[str, Any] = {}
    for tensor in ("k", "v", "qk"):
        values |= _fields(tensor, getattr(quant, tensor))
    weights = quant.weights or WeightQuantSpec(4)
    values |= {
        "weights": _weights_name(quant.weights),
        "weights scale": weights.scale,
        "weights group": min(weights.group_size, MOST),
        "weights symmetric": weights.symmetric,
        "weights full range": weights.full_range,
        "activations": f"int{quant.activations.bits}" if quant.activations else "none",
    }
    fill("by hand", quant, values)


def by_hand(family: str) -> QuantSpec:
    """The tabs, and the QuantSpec they spell.

    Raises:
        BadSpec: fields that exclude each other.
    """
    tabs = dict(zip(TABS, st.tabs(list(TABS.values())), strict=True))
    drawn: dict[str, Any] = {}
    for tensor, tab in tabs.items():  # all tabs first: a refusal must not hide the rest
        with tab:
            special = {"weights": _weights_tab, "activations": _activations_tab}
            drawn[tensor] = special[tensor]() if tensor in special else _tensor_tab(tensor, family)
    return QuantSpec(
        weights=_build(WeightQuantSpec, drawn["weights"]),
        k=_build(QuantizerSpec, drawn["k"]),
        v=_build(QuantizerSpec, drawn["v"]),
        qk=_build(QuantizerSpec, drawn["qk"]),
        activations=_build(QuantizerSpec, drawn["activations"]),
    )


def _build(kind: type[Spec], drawn: Mapping[str, Any] | Spec | None) -> Spec | None:
    return kind(**drawn) if isinstance(drawn, Mapping) else drawn


def _fields(tensor: str, spec: QuantizerSpec | None) -> dict[str, Any]:
    at = spec or INT4_QUANTIZER
    fields = {
        "": _name(tensor, spec),
        " scale": at.scale,
        " group": min(at.group_size or DEFAULT_BLOCK, MOST),
        " rotation": at.rotation,
        " before rope": at.before_rope,
        " levels": "absmax" if at.levels in FLOATS else at.levels,
        " stored in": at.scale_dtype,
        " residual": min(at.residual, MOST),
        " rotation least": min(at.rotation_least, ROTATION_BLOCKS[-1]),
        " rotation block": min(at.rotation_block, ROTATION_BLOCKS[-1]) if at.rotation_block else AUTO,
        " channel order": at.channel_order,
        " step": min(at.static_scale or 0.0, float(MOST)),
    }
    return {f"{tensor}{field}": value for field, value in fields.items()}


def _name(tensor: str, spec: QuantizerSpec | None) -> str:
    if spec is None:
        return "none"
    own = (name for name, p in KV_PRESETS.items() if tensor != "qk" and getattr(p, tensor) == spec)
    return next(own, spec.levels if spec.levels in FLOATS else f"int{spec.bits}")


def _weights_name(spec: WeightQuantSpec | None) -> str:
    if spec is None:
        return "none"
    return next((name for name, p in WEIGHT_PRESETS.items() if p.weights == spec), f"int{spec.bits}")


def _tensor_tab(tensor: str, family: str) -> Mapping[str, Any] | QuantizerSpec | None:
    """Fields of the spec, a preset's whole spec, or None."""
    one, two, three = st.columns(3)
    presets = [] if tensor == "qk" else list(KV_PRESETS)
    name = one.selectbox(f"{TABS[tensor]} in", ["none", *INTS, *FLOATS, *presets], key=tensor)
    if name == "none":
        return None
    if name in KV_PRESETS:
        spec = getattr(for_family(preset_quant(name), family), tensor)
        bias = f" {bias_words(spec)}" if tensor == "k" else ""
        st.caption(literal(f"{quantizer_words(spec)}. {memory_words(KV_PRESETS[name])}{bias} {KV_PRESETS[name].note}"))
        return spec
    axes = [axis for axis in get_args(ScaleAxis) if not (tensor == "qk" and axis == "channel")]
    scale = two.selectbox("One scale per", axes, key=f"{tensor} scale", help=term_help("Scale granularity"))
    rotation = three.selectbox(
        "Rotation", ["none", "hadamard"], key=f"{tensor} rotation", help=term_help("Hadamard rotation")
    )
    out = {"bits": GRIDS[name].width if name in FLOATS else int(name[3:]), "scale": scale, "rotation": rotation}
    if scale in ("block", "channel"):
        unit = "channels" if scale == "block" else "tokens"
        out["group_size"] = int(number(one, f"Group, {unit}", 2, MOST, f"{tensor} group"))
    if tensor == "k":
        out["before_rope"] = two.checkbox("K before RoPE", key="k before rope")
    with st.expander("Advanced"):
        return out | _advanced(tensor, name, scale, rotation)


def _advanced(tensor: str, name: str, scale: str, rotation: str) -> dict[str, Any]:
    """The fields that runtimes differ in; each only where it means something."""
    one, two = st.columns(2)
    out: dict[str, Any] = {"levels": name}
    if name not in FLOATS:
        labels = {kind: levels.label for kind, levels in GRIDS.items() if kind not in FLOATS}
        out["levels"] = one.selectbox("Levels", list(labels), format_func=labels.__getitem__, key=f"{tensor} levels")
    out["scale_dtype"] = two.selectbox(
        "Scale stored in", get_args(ScaleDtype), key=f"{tensor} stored in", help="input: the model's own dtype"
    )
    if tensor != "qk":
        out["residual"] = int(
            number(one, "Newest tokens kept exact", 0, MOST, f"{tensor} residual", help=term_help("Residual cache"))
        )
    if scale == "tensor":
        step = number(
            two,
            "Static scale",
            0.0,
            float(MOST),
            f"{tensor} step",
            format="%g",
            help="The step, as vLLM's k_scale. 0: measured on calibration text.",
        )
        out["static_scale"] = step or None
    if rotation == "hadamard":
        block = one.selectbox("Rotation block, channels", [AUTO, *ROTATION_BLOCKS], key=f"{tensor} rotation block")
        out["rotation_block"] = None if block == AUTO else block
        out["rotation_least"] = two.selectbox(
            "No rotation under, channels", ROTATION_BLOCKS, key=f"{tensor} rotation least"
        )
    if rotation == "hadamard" or scale == "block":
        orders = get_args(get_type_hints(QuantizerSpec)["channel_order"])
        out["channel_order"] = two.selectbox(
            "Channel order", orders, format_func=ORDER_WORDS.__getitem__, key=f"{tensor} channel order"
        )
    return out


def _activations_tab() -> Mapping[str, Any] | None:
    name = st.selectbox(
        "What linear layers read, in",
        ["none", *INTS],
        key="activations",
        help="Symmetric, one scale a token over all inputs of a layer.",
    )
    return None if name == "none" else {"bits": int(name[3:])}


def _weights_tab() -> Mapping[str, Any] | WeightQuantSpec | None:
    one, two, three = st.columns(3)
    name = one.selectbox("Weights in", ["none", *INTS, *WEIGHT_PRESETS], key="weights")
    if name == "none":
        return None
    if name in WEIGHT_PRESETS:
        st.caption(literal(f"{weight_words(WEIGHT_PRESETS[name].weights)}. {WEIGHT_PRESETS[name].note}"))
        return WEIGHT_PRESETS[name].weights
    scale = two.selectbox("One scale per", get_args(get_type_hints(WeightQuantSpec)["scale"]), key="weights scale")
    out: dict[str, Any] = {"bits": int(name[3:]), "scale": scale}
    if scale == "group":
        out["group_size"] = int(number(three, "Group, inputs of a row", 2, MOST, "weights group"))
    with st.expander("Advanced"):
        out["symmetric"] = st.checkbox("Symmetric levels (off: affine, min..max)", key="weights symmetric")
        out["full_range"] = st.checkbox(
            "Full range: the lowest level too, as W4A16 checkpoints", key="weights full range"
        )
    return out
