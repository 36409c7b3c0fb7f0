"""The settings that the searches beyond the default are measured under: SmolLM2-135M, YaRN x2, 2,048 tokens."""

from __future__ import annotations

from qroar_core.models.text import COLLECTIONS
from qroar_core.specs import QuantizerSpec, QuantSpec, RopeSpec, WeightQuantSpec

LENGTH, WINDOWS = 2048, 8
ROPE = RopeSpec("yarn", 2.0)
SETTINGS = {
    "K int4": QuantSpec(k=QuantizerSpec(4)),
    "K int3": QuantSpec(k=QuantizerSpec(3)),
    "K and V int4, W4 in groups of 64": QuantSpec(WeightQuantSpec(4, "group", 64), QuantizerSpec(4), QuantizerSpec(4)),
}
# the first setting on every text collection, the others on the technical one
ROWS = [(name, text) for name in SETTINGS for text in (COLLECTIONS if name == "K int4" else ("technical",))]
