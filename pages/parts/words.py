"""Specs in a few words, for strips and menus."""

from __future__ import annotations

from qroar_core.specs import METHOD_NAMES, QuantizerSpec, QuantSpec, RopeSpec, WeightQuantSpec

TENSOR_WORDS = {"k/post": "K after RoPE", "k/pre": "K before RoPE", "q/post": "Q after RoPE", "q/pre": "Q before RoPE"}


def rope_words(rope: RopeSpec) -> str:
    """`YaRN ×4`."""
    name = METHOD_NAMES[rope.method]
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


def short_name(name: str, most: int = 40) -> str:
    """A long name cut in its middle, where model names differ least."""
    return name if len(name) <= most else f"{name[: most * 3 // 5]}…{name[len(name) - most * 2 // 5 + 1 :]}"


def size_words(count: int) -> str:
    """`3.5 M`, `8.03 B`, `256`."""
    for unit, name in ((1e9, "B"), (1e6, "M")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count:,}"


def seconds_words(seconds: float) -> str:
    """`8 s`, `2 min 05 s`."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"
