"""From a setting back to the words of the command line: the inverse of `settings.py`, and checked by it.

A dashboard sets more than the options spell. What is left over is named, never dropped in silence.
"""

from __future__ import annotations

import shlex
from dataclasses import fields, is_dataclass
from typing import Any

from qroar_core.cli.options import BANDS, DIAGNOSE, OUTLIERS, ROTATION, SEARCH, SETTING, SLIDING
from qroar_core.cli.settings import NULL_DRAWS, setting_of
from qroar_core.errors import QRoarError
from qroar_core.exporters.cache_scales import reads_scales
from qroar_core.exporters.recipe import FROM_CHECKPOINT
from qroar_core.interpolations.tie import ties_text
from qroar_core.models.family_preset import for_family
from qroar_core.models.load import choose_dtype
from qroar_core.models.loaded import LoadedModel
from qroar_core.quantizers.presets import KV_PRESETS, WEIGHT_PRESETS
from qroar_core.setting import Setting
from qroar_core.specs import BandSpec, QuantizerSpec, QuantSpec, RopeSpec
from qroar_core.transforms.registry import switches

GROUPS = (SETTING, BANDS, OUTLIERS, DIAGNOSE, SEARCH, SLIDING, ROTATION)
DEFAULTS: dict[str, Any] = {p.name: p.default for group in GROUPS for p in group}
ALWAYS_WRITTEN = ("rope", "factor", "k", "v", "weights", "qk")  # said even where they are the model's default


def run_command(loaded: LoadedModel, setting: Setting, out: str = "runs/again") -> tuple[str, list[str]]:
    """The `run` command of this setting, and the fields that no option spells."""
    options = options_of(loaded, setting)
    words = ["run", loaded.source, *_words(options), *_dtype(loaded), "--out", out]
    return f"python -m qroar_core {shlex.join(words)}", left_over(loaded, setting, options)


def evaluate_command(loaded: LoadedModel, setting: Setting, scales: str) -> tuple[str, list[str]]:
    """The `evaluate` command that measures a scales file under this setting, and what of it no option spells."""
    taken = {p.name for p in (*SETTING, *SLIDING)} | {"lengths"}
    options = {name: value for name, value in options_of(loaded, setting).items() if name in taken}
    words = ["evaluate", loaded.source, *_words(options), *_dtype(loaded), "--scales", scales]
    decisive = [name for name in left_over(loaded, setting, options) if name.startswith(("rope", "quant"))]
    return f"python -m qroar_core {shlex.join(words)}", decisive


def export_command(loaded: LoadedModel, setting: Setting, format: str, out: str, scales: str | None) -> str:
    """The `export` command that writes this folder again.

    A scales file says its interpolation itself; one that options do not spell is read from rope.json.
    """
    rope = {name: value for name, value in options_of(loaded, setting).items() if name in ("rope", "factor", "tie")}
    chosen = {"scales": scales} if scales else rope if spelled(setting.rope) else {"rope": "rope.json"}
    measured = {}
    if reads_scales(setting.quant, format):
        said = {name: value for name, value in options_of(loaded, setting).items() if name in ("text", "bos")}
        measured = {"cache_scales": True, "kv": FROM_CHECKPOINT, "length": setting.search.length, **said}
    words = ["export", loaded.source, *_words({"format": format, **chosen, **measured}), *_dtype(loaded), "--out", out]
    return f"python -m qroar_core {shlex.join(words)}"


def spelled(rope: RopeSpec) -> bool:
    """Whether --rope, --factor and --tie say all of an interpolation."""
    return rope == RopeSpec(rope.method, rope.factor, tie=rope.tie)


def options_of(loaded: LoadedModel, setting: Setting) -> dict[str, Any]:
    """Option values that say as much of `setting` as they can, without those that go without saying."""
    rope, search, family = setting.rope, setting.search, loaded.geometry.family
    usual = BandSpec.default(loaded.geometry.n_pairs)
    brought = {need for name in search.kinds for need in switches()[name].needs}
    options: dict[str, Any] = {
        "rope": rope.method,
        "factor": None if rope.method == "default" else rope.factor,
        "tie": ties_text(rope.tie) or None,
        **_cache(setting.quant, family),
        **_weights(setting.quant),
        "keep_layers": ",".join(map(str, setting.quant.keep_layers)) or None,
        "qk": f"int{setting.quant.qk.bits}" if setting.quant.qk else "none",
        "activations": f"int{setting.quant.activations.bits}" if setting.quant.activations else "none",
        "length": search.length,
        "text": setting.text,
        "bos": setting.bos_word,
        "seed": search.seed,
        "bands": None if search.bands.count == usual.count else search.bands.count,
        "partition": search.bands.partition,
        "distance_law": setting.diagnosis.law,
        "outlier_rule": setting.diagnosis.outlier_rule,
        "outlier_parameter": setting.diagnosis.outlier_parameter,
        "null": setting.diagnosis.null_draws == NULL_DRAWS,
        "band_cost": setting.diagnosis.band_cost,
        "granularity": search.granularity,
        "mode": search.mode,
        **{name: name in search.kinds and name not in brought for name in switches()},
        "objective": search.objective,
        "error_metric": search.error_metric,
        "method": search.method,
        "sampler": search.sampler,
        "trials": search.trials,
        "l2_penalty": search.l2_penalty,
        "windows": search.windows,
        "bounds": ",".join(f"{low:g}:{high:g}" for low, high in search.bounds) if search.bounds else None,
        "lengths": ",".join(map(str, setting.evaluation.lengths)),
        "stride": setting.evaluation.stride,
        "targets": setting.evaluation.targets,
        "rotation_scales": setting.evaluation.rotation_scales,
    }
    options = {name: value for name, value in options.items() if name in ALWAYS_WRITTEN or value != DEFAULTS.get(name)}
    options = {name: value for name, value in options.items() if value not in (None, "none", False)}
    for name in ("windows", "length", "text", "bos", "lengths", "granularity"):  # said only where it changes something
        without = {key: value for key, value in options.items() if key != name}
        if len(left_over(loaded, setting, without)) <= len(left_over(loaded, setting, options)):
            options = without
    return options


def left_over(loaded: LoadedModel, setting: Setting, options: dict[str, Any]) -> list[str]:
    """Names of the fields in which the setting that `options` mean differs from `setting`."""
    try:
        return _differing("", setting_of(DEFAULTS | options, loaded), setting)
    except (QRoarError, OSError):
        return ["every option"]


def _dtype(loaded: LoadedModel) -> list[str]:
    usual = choose_dtype("auto", loaded.device)
    return [] if loaded.dtype == usual else ["--dtype", str(loaded.dtype).removeprefix("torch.")]


def _differing(name: str, a: Any, b: Any) -> list[str]:
    if a == b:
        return []
    if is_dataclass(a) and type(a) is type(b):
        inner = [f.name for f in fields(a) if f.compare]
        return [left for f in inner for left in _differing(f"{name}.{f}".lstrip("."), getattr(a, f), getattr(b, f))]
    return [name]


def _cache(quant: QuantSpec, family: str) -> dict[str, Any]:
    """`--k`, `--v` and the options both share."""
    options: dict[str, Any] = {}
    for which in ("k", "v"):
        spec: QuantizerSpec | None = getattr(quant, which)
        if spec is None:
            continue
        preset = _preset(which, spec, family)
        options[which] = preset or f"int{spec.bits}"
        if preset is None:
            options |= {"kv_scale": spec.scale, "kv_rotation": spec.rotation, "group_size": spec.group_size}
            options["k_before_rope"] = options.get("k_before_rope", False) or spec.before_rope
    if options.get("kv_scale") == "token":
        del options["kv_scale"]
    return {name: value for name, value in options.items() if value != "none"}


def _preset(which: str, spec: QuantizerSpec, family: str) -> str | None:
    for name, preset in KV_PRESETS.items():
        if getattr(for_family(QuantSpec(k=preset.k, v=preset.v), family), which) == spec:
            return name
    return None


def _weights(quant: QuantSpec) -> dict[str, Any]:
    spec = quant.weights
    if spec is None:
        return {}
    preset = next((name for name, known in WEIGHT_PRESETS.items() if known.weights == spec), None)
    if preset:
        return {"weights": preset}
    sized = {"group_size": spec.group_size} if spec.scale == "group" else {}
    return {"weights": f"int{spec.bits}", "weight_scale": spec.scale, **sized}


def _words(options: dict[str, Any]) -> list[str]:
    words: list[str] = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        words += [flag] if value is True else [flag, f"{value:g}" if isinstance(value, float) else str(value)]
    return words
