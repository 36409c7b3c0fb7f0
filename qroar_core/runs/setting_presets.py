"""Common setups: an interpolation and a quantizer together, for one click.

A preset says nothing about the model: it is laid on whatever is loaded, in the quantizer's form for that family.
"""

from __future__ import annotations

from dataclasses import dataclass

from qroar_core.models.family_preset import for_family
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.own_rope import NONE, own_rope
from qroar_core.quantizers.presets import preset_quant
from qroar_core.setting import INT3_K, INT4_K
from qroar_core.specs import QuantSpec, RopeSpec


@dataclass(frozen=True, slots=True)
class SettingPreset:
    """One interpolation with one quantizer, and what it shows in a sentence."""

    rope: RopeSpec
    quant: QuantSpec
    why: str


SETTING_PRESETS: dict[str, SettingPreset] = {
    "YaRN ×4, int4 K cache": SettingPreset(
        RopeSpec("yarn", 4.0),
        INT4_K,
        "All bands of a token share one rounding step, so one band with large values makes it coarser for all.",
    ),
    "YaRN ×4, int3 K cache": SettingPreset(
        RopeSpec("yarn", 4.0), INT3_K, "The same with half the levels: how far can a cache go?"
    ),
    "YaRN ×2, int4 K cache": SettingPreset(
        RopeSpec("yarn", 2.0), INT4_K, "A mild stretch: what most models take without fine-tuning."
    ),
    "linear ×8, int4 K cache": SettingPreset(
        RopeSpec("linear", 8.0), INT4_K, "Every frequency slowed alike, the fast ones too: most pressure."
    ),
    "dynamic NTK ×4, llama.cpp q4_0": SettingPreset(
        RopeSpec("dynamic", 4.0), preset_quant("q4_0"), "Rotated blocks of 32, as llama.cpp runs by default."
    ),
    "YaRN ×4, KIVI 2-bit": SettingPreset(
        RopeSpec("yarn", 4.0), preset_quant("kivi2"), "K with a scale per channel: bands share no step."
    ),
    "checkpoint's own RoPE, int4 K cache": SettingPreset(
        RopeSpec(), INT4_K, "The checkpoint as it is, quantized: what interpolation adds is the difference."
    ),
    "YaRN ×4, W4A16 group 128 (scales cannot act)": SettingPreset(
        RopeSpec("yarn", 4.0), preset_quant("w4a16"), "Weights alone, a scale per row and group: rescaling is a no-op."
    ),
}


def what_it_shows(loaded: LoadedModel, name: str) -> str:
    """A preset in a sentence, on this model: its own interpolation is none that the quantized one is free of."""
    preset, own = SETTING_PRESETS[name], own_rope(loaded)
    if preset.rope.method != "default" or own == NONE:
        return preset.why
    return f"The checkpoint as it is, quantized, with the interpolation that it ships with ({own})."


def preset_in_force(loaded: LoadedModel, rope: RopeSpec, quant: QuantSpec) -> str | None:
    """Name of the preset that this interpolation and quantizer are on this model, or None."""
    family = loaded.geometry.family
    return next(
        (
            name
            for name, preset in SETTING_PRESETS.items()
            if (preset.rope, for_family(preset.quant, family)) == (rope, quant)
        ),
        None,
    )
