"""Quantizers in words: `int4` with its options, or a runtime's cache or weight format by name."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Any, Literal

from qroar_core.errors import BadSpec
from qroar_core.quantizers.presets import KV_PRESETS, WEIGHT_PRESETS
from qroar_core.quantizers.spec import QuantizerSpec, ScaleAxis, WeightQuantSpec

INT_BITS = range(2, 9)
DEFAULT_BLOCK = 32  # channels of a block, where nobody says
DEFAULT_CHANNEL_GROUP = 32  # tokens of a channel's group; KIVI's G
LISTED = "`qroar presets` lists all"


def parse_cache_option(
    text: str,
    tensor: Literal["k", "v"],
    *,
    kv_scale: ScaleAxis | None = None,
    group_size: int | None = None,
    kv_rotation: Literal["none", "hadamard"] | None = None,
    where: str = "",
) -> QuantizerSpec | None:
    """What `--k` or `--v` spells: `none`, `int2`..`int8`, or a K/V preset.

    `int4` alone is symmetric, absmax step, one scale per token and KV head, after RoPE. The options
    after it change that; None means the option was not given. They do not go with a preset, whose
    scales and rotation are its runtime's.

    Args:
        text: the option's value.
        tensor: which of a preset's two quantizers is meant.
        kv_scale: `token` unless given.
        group_size: channels of a `block` (32 unless given) or tokens of a `channel` group (32).
        kv_rotation: `none` unless given.
        where: the option as the person spelled it, for messages; `--k` or `--v` unless given.
    Returns:
        The quantizer, or None for `none`.
    Raises:
        BadSpec: unknown value (the nearest are named), or a preset with its own options contradicted.
    """
    name, where = text.strip().lower(), where or f"--{tensor}"
    if name == "none":
        return None
    if name in KV_PRESETS:
        if (kv_scale, group_size, kv_rotation) != (None, None, None):
            given = "--kv-scale" if kv_scale else "--group-size" if group_size else "--kv-rotation"
            raise BadSpec(f"preset {name} brings its own scales and rotation", where=where, do=f"drop {given}")
        return KV_PRESETS[name].k if tensor == "k" else KV_PRESETS[name].v
    match = re.fullmatch(r"int(\d+)", name)
    if match is None or int(match[1]) not in INT_BITS:
        raise BadSpec(f"unknown cache quantizer {text!r}", where=where, do=_instead(name))
    scale = kv_scale or "token"
    default = {"block": DEFAULT_BLOCK, "channel": DEFAULT_CHANNEL_GROUP}.get(scale)
    if group_size is not None and default is None:
        raise BadSpec(f"--group-size has no meaning with --kv-scale {scale}", where=where, do="drop it")
    return QuantizerSpec(int(match[1]), scale=scale, group_size=group_size or default, rotation=kv_rotation or "none")


def _instead(name: str) -> str:
    """What to give in place of a name that no cache has."""
    if name in WEIGHT_PRESETS:
        return f"it is a format of weights: --weights {name}"
    if re.fullmatch(r"(int|i|u)?-?\d*", name):
        return f"choose int{INT_BITS[0]} to int{INT_BITS[-1]}, or a runtime's cache: {LISTED}"
    near = get_close_matches(name, ["none", *KV_PRESETS], 3)
    if not near:
        return f"choose none, int{INT_BITS[0]} to int{INT_BITS[-1]}, or a runtime's cache: {LISTED}"
    return f"did you mean {', '.join(near[:-1])}{' or ' * (len(near) > 1)}{near[-1]}? {LISTED}"


def parse_weights(text: str, scale: Any, group_size: int, *, where: str, do: str) -> WeightQuantSpec | None:
    """What `--weights` spells: `none`, `int2`..`int8` with a scale, or a weight format by name.

    Args:
        where, do: the option and the known values, for messages.
    """
    if text in WEIGHT_PRESETS:
        return WEIGHT_PRESETS[text].weights
    bits = _bits(text, where, do)
    return None if bits is None else WeightQuantSpec(bits, scale, group_size)


def parse_activation(text: str, *, where: str, do: str) -> QuantizerSpec | None:
    """What `--qk` and `--activations` spell: `none`, or `int2`..`int8` with one scale a token."""
    bits = _bits(text, where, do)
    return None if bits is None else QuantizerSpec(bits)


def _bits(text: str, where: str, do: str) -> int | None:
    if text == "none":
        return None
    found = re.fullmatch(r"int([2-8])", text)
    if not found:
        raise BadSpec(f"unknown value {text!r}", where=where, do=do)
    return int(found[1])
