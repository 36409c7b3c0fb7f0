"""Specs in a few words, for the status bar, menus, tables and figures."""

from __future__ import annotations

import re
from collections.abc import Sequence

from qroar_core.interpolations.registry import interpolation_methods, label_of
from qroar_core.interpolations.spec import RopeSpec
from qroar_core.interpolations.tie import ties_words
from qroar_core.quantizers.grids import GRIDS
from qroar_core.quantizers.spec import QuantizerSpec, QuantSpec, WeightQuantSpec

TEXT_WORDS = {
    "messages": "messages of US presidents",
    "technical": "the Python language reference",
    "novels": "novels of Jane Austen",
}
CONDITION_WORDS = {  # model/scales, as results name them
    "reference/identity": "reference",
    "reference/tuned": "reference, tuned",
    "quantized/identity": "quantized",
    "quantized/tuned": "quantized, tuned",
    "quantized/smooth_attention": "quantized, SmoothAttention",
    "quantized/rotation": "quantized, Hadamard rotation",
    "quantized/rotation_tuned": "quantized, rotation and scales",
    "reference/untied": "reference, no pairs tied",
    "quantized/untied": "quantized, no pairs tied",
}
GRANULARITY_WORDS = {"model": "one for the whole model", "layer": "per layer", "kv_head": "per layer and KV head"}


def capital(sentence: str) -> str:
    """A sentence that was made to stand inside another, at the head of a line."""
    return sentence[:1].upper() + sentence[1:]


def checksum_words(sentence: str) -> str:
    """What a result was read on, for a reader: its `digest 46451bed` is the text's checksum."""
    return re.sub(r"\bdigest (?=[0-9a-f]{8}\b)", "text checksum ", sentence)


def setting_words(rope: RopeSpec, quant: QuantSpec) -> str:
    """`YaRN ×4, K int4 per token`."""
    return f"{rope_words(rope)}, {quant_words(quant)}"


def rope_words(rope: RopeSpec) -> str:
    """`YaRN ×4`; `YaRN ×2 (beta_fast 24, attention factor 1.2), tied 20–21, 22–25, still 26–31`."""
    method = "own RoPE" if rope.method == "default" else f"{label_of(rope.method)} ×{rope.factor:g}"
    usual = RopeSpec()
    asked = [option.field for option in interpolation_methods()[rope.method].options]
    said = [f"{name} {getattr(rope, name):.3g}" for name in asked if getattr(rope, name) != getattr(usual, name)]
    said += [f"attention factor {rope.attention_factor:.3g}"] if rope.attention_factor is not None else []
    if rope.long_factor:
        said.insert(0, f"divisors up to {max(rope.long_factor):.3g}")
    return ", ".join(filter(None, (method + (f" ({', '.join(said)})" if said else ""), ties_words(rope.tie))))


def quantizer_words(spec: QuantizerSpec) -> str:
    """`int4 per token, Hadamard`."""
    known = GRIDS[spec.levels]
    levels = known.label if known.width else f"{known.label} {spec.bits} bits" if known.floating else f"int{spec.bits}"
    group = f" of {spec.group_size}" if spec.group_size else ""
    if spec.bits > 8:  # a float as it is: no scale
        return levels
    extra = [", Hadamard"] if spec.rotation == "hadamard" else []
    extra += [", before RoPE"] if spec.before_rope else []
    return f"{levels} per {spec.scale}{group}{''.join(extra)}"


def weight_words(spec: WeightQuantSpec) -> str:
    """`int4 per group of 128`."""
    group = f" of {spec.group_size}" if spec.scale == "group" else ""
    return f"int{spec.bits} per {spec.scale}{group}"


NOTHING_QUANTIZED = "every layer kept: nothing of the K/V cache is quantized"


def layers_words(layers: Sequence[int]) -> str:
    """`layers 0, 1, 29`, `layer 3`."""
    return f"{'layer' if len(layers) == 1 else 'layers'} {', '.join(map(str, layers))}"


def kept_words(layers: Sequence[int], count: int) -> str:
    """`layers 0, 29 kept`, of a model that has `count` of them."""
    if not layers:
        return "no layer kept"
    return NOTHING_QUANTIZED if len(layers) == count else f"{layers_words(layers)} kept"


def quant_words(quant: QuantSpec) -> str:
    """`K int4 per token, V int4 per token`."""
    if quant.is_none:
        return "nothing quantized"
    parts = [f"weights {weight_words(quant.weights)}"] if quant.weights else []
    if quant.k and quant.k == quant.v:
        parts.append(f"K and V {quantizer_words(quant.k)}")
    else:
        parts += [f"{name} {quantizer_words(spec)}" for name, spec in (("K", quant.k), ("V", quant.v)) if spec]
    parts += [f"cache of {layers_words(quant.keep_layers)} kept"] if quant.keep_layers and (quant.k or quant.v) else []
    parts += [f"q and k {quantizer_words(quant.qk)}"] if quant.qk else []
    parts += [f"linear inputs {quantizer_words(quant.activations)}"] if quant.activations else []
    return "; ".join(parts)
