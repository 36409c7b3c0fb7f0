"""Specs in a few words, for strips and menus."""

from __future__ import annotations

from qroar_core.specs import QuantizerSpec, QuantSpec, RopeSpec, WeightQuantSpec

ROPE_NAMES = {
    "default": "the checkpoint's own",
    "linear": "linear",
    "ntk": "NTK-aware (static)",
    "dynamic": "dynamic NTK",
    "yarn": "YaRN",
    "longrope": "LongRoPE",
    "llama3": "llama3",
}
TENSOR_WORDS = {"k/post": "K after RoPE", "k/pre": "K before RoPE", "q/post": "Q after RoPE", "q/pre": "Q before RoPE"}


def rope_words(rope: RopeSpec) -> str:
    """`YaRN ×4`."""
    name = ROPE_NAMES[rope.method]
    return "own RoPE" if rope.method == "default" else f"{name} ×{rope.factor:g}"


def quantizer_words(spec: QuantizerSpec) -> str:
    """`int4 per token, Hadamard`."""
    levels = spec.levels if spec.levels in ("e4m3", "e5m2") else f"int{spec.bits}"
    group = f" of {spec.group_size}" if spec.group_size else ""
    extra = [", Hadamard"] if spec.rotation == "hadamard" else []
    extra += [", before RoPE"] if spec.before_rope else []
    return f"{levels} per {spec.scale}{group}{''.join(extra)}"


def weight_words(spec: WeightQuantSpec) -> str:
    """`int4 per group of 128`."""
    group = f" of {spec.group_size}" if spec.scale == "group" else ""
    return f"int{spec.bits} per {spec.scale}{group}"


def quant_words(quant: QuantSpec) -> str:
    """`K int4 per token, V int4 per token`."""
    if quant.is_none:
        return "nothing quantized"
    parts = [f"weights {weight_words(quant.weights)}"] if quant.weights else []
    if quant.k and quant.k == quant.v:
        parts.append(f"K and V {quantizer_words(quant.k)}")
    else:
        parts += [f"{name} {quantizer_words(spec)}" for name, spec in (("K", quant.k), ("V", quant.v)) if spec]
    parts += [f"q and k {quantizer_words(quant.qk)}"] if quant.qk else []
    return "; ".join(parts)


def seconds_words(seconds: float) -> str:
    """`8 s`, `2 min 05 s`."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"
