"""The settings that the searches beyond the default are measured under: SmolLM2-135M, YaRN x2, 2,048 tokens."""

from __future__ import annotations

from typing import Literal, get_args

from qroar_core.models.text import COLLECTIONS
from qroar_core.specs import QuantizerSpec, QuantSpec, RopeSpec, WeightQuantSpec

LENGTH, WINDOWS = 2048, 8
ROPE = RopeSpec("yarn", 2.0)
Name = Literal["int4", "int3", "w4kv4"]
SETTINGS: dict[Name, tuple[str, QuantSpec]] = {
    "int4": ("K int4", QuantSpec(k=QuantizerSpec(4))),
    "int3": ("K int3", QuantSpec(k=QuantizerSpec(3))),
    "w4kv4": (
        "K and V int4, W4 in groups of 64",
        QuantSpec(WeightQuantSpec(4, "group", 64), QuantizerSpec(4), QuantizerSpec(4)),
    ),
}
NAMES: tuple[Name, ...] = get_args(Name)
# the first setting on every text collection, the others on the technical one
TEXTS: dict[Name, tuple[str, ...]] = {"int4": tuple(COLLECTIONS), "int3": ("technical",), "w4kv4": ("technical",)}
