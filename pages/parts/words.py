"""Specs in a few words, for strips and menus."""

from __future__ import annotations

from qroar_core.specs.words import quant_words, quantizer_words, rope_words, setting_words, weight_words

__all__ = [
    "TENSOR_WORDS",
    "quant_words",
    "quantizer_words",
    "rope_words",
    "seconds_words",
    "setting_words",
    "short_name",
    "size_words",
    "weight_words",
]

TENSOR_WORDS = {"k/post": "K after RoPE", "k/pre": "K before RoPE", "q/post": "Q after RoPE", "q/pre": "Q before RoPE"}


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
