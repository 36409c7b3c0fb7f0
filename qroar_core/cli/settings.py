"""From option values to specs: the one place where the command line's words get their meaning."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qroar_core.cli.check_options import SEARCH_FIELDS, about, check_specs, check_workers, kinds_of
from qroar_core.cli.choices import CHOICES
from qroar_core.cli.parse import bands_spec, bounds_of, layers_of, lengths_of
from qroar_core.cli.rope_options import require_fitting, rope_file, rope_spec
from qroar_core.cli.tables import note
from qroar_core.cli.texts import text_label
from qroar_core.errors import BadSpec
from qroar_core.quantizers.parse import parse_activation, parse_cache_option, parse_weights
from qroar_core.quantizers.presets import WEIGHT_PRESETS
from qroar_core.specs import (
    DiagnosisSpec,
    EvaluationSpec,
    QuantSpec,
    SearchSpec,
)
from qroar_core.specs.labels import NOTHING_QUANTIZED

if TYPE_CHECKING:  # a command that reads no model starts without torch
    from qroar_core.models.loaded import LoadedModel
    from qroar_core.setting import Setting

NULL_DRAWS = 8  # of --null
INTEGERS = "choose none or int2..int8"


def check(options: dict[str, Any]) -> None:
    """Refuse, before any model is read, what no model could make right.

    Raises:
        BadSpec: names the option and, where they are few, the known values.
    """
    for name, known in CHOICES.items():
        value = options.get(name)
        if name == "rope" and rope_file(options):
            continue  # read below
        if value is not None and value not in known:
            raise BadSpec(f"unknown value {value!r}", where=_flag(name), do=f"choose one of {', '.join(known)}")
    for name, least in (
        ("bands", 1),
        ("windows", 1),
        ("length", 2),
        ("group_size", 2),
        ("weight_group", 1),
        ("workers", 1),
        ("trials", 1),
        ("l2_penalty", 0),
        ("stride", 1),
        ("targets", 1),
    ):
        value = options.get(name)
        if value is not None and value < least:
            raise BadSpec(f"must be at least {least}, got {value}", where=_flag(name), do="give a larger number")
    if options.get("windows") == 1 and options.get("intervals"):
        raise BadSpec("one window gives no interval", where="--windows", do="give at least 2")
    rope_spec(options)
    quant = quant_spec(options)
    if options.get("value_maps") and quant is not None:  # None: the model's own, known once it is read
        quant.require_quantized_values()
    check_specs(options, lengths_of(options.get("lengths")), bounds_of(options.get("bounds")))
    check_workers(options)


def _flag(name: str) -> str:
    return "--group-size" if name == "weight_group" else "--" + name.replace("_", "-")  # of w4a16 beside a quantizer's


def setting_of(options: dict[str, Any], loaded: LoadedModel) -> Setting:
    """Every spec of a command; what was not asked comes from `default_setting` of the model."""
    from qroar_core.evaluation.run import must_rotate
    from qroar_core.setting import Setting, default_setting
    from qroar_core.specs.stages import LEAST_DIAGNOSED

    check(options)
    rope, quant = rope_spec(options), quant_spec(options)
    require_fitting(options, rope, loaded)
    base = default_setting(loaded, rope, quant, options.get("length"), options.get("bos", "auto"))
    if set(base.quant.keep_layers) >= set(loaded.geometry.decoder_numbers):
        note(f"--keep-layers: {NOTHING_QUANTIZED}")
    if options.get("rotation_scales") is True:
        must_rotate(base.quant)
    rope, length = base.rope, base.diagnosis.length
    least = LEAST_DIAGNOSED
    if "partition" in options and min(loaded.geometry.original_context, length or least) < least:
        if loaded.geometry.original_context < least:
            raise BadSpec(
                f"its native window of {loaded.geometry.original_context} tokens is too short to diagnose",
                where=loaded.name,
                do=f"choose a model with at least {least}",
            )
        raise BadSpec(f"{length} tokens are too few to diagnose", where="--length", do=f"give at least {least}")
    seed, windows = options.get("seed", 0), options.get("windows")
    bands = bands_spec(options, base.search.bands, loaded)
    lengths = lengths_of(options.get("lengths")) or base.evaluation.lengths
    search = SearchSpec(
        **{name: options[name] for name in SEARCH_FIELDS if name in options},
        granularity=options.get("granularity") or base.search.granularity,
        bands=bands,
        length=length,
        windows=base.search.windows if windows is None else windows,
        fewer=windows is None,
        seed=seed,
    ).of_kinds(kinds_of(options))
    with about("--bounds"):
        search = replace(search, bounds=bounds_of(options.get("bounds")))
    with about("--stride"):
        evaluation = EvaluationSpec(
            lengths=lengths,
            windows=max(2, windows or base.evaluation.windows),  # 1 is of a search alone: see `check`
            fewer=windows is None,
            targets=options.get("targets"),
            stride=options.get("stride"),
            seed=seed,
            rotation_scales=options.get("rotation_scales") is True,
        )
    return Setting(
        rope=rope,
        quant=base.quant,
        diagnosis=DiagnosisSpec(
            length=length,
            short_length=base.diagnosis.short_length,
            bands=bands,
            seed=seed,
            law=options.get("distance_law") or base.diagnosis.law,
            null_draws=NULL_DRAWS if options.get("null") else 1,
            band_cost=bool(options.get("band_cost", False)),
            **{n: options[n] for n in ("outlier_rule", "outlier_parameter") if n in options},
        ),
        search=search,
        evaluation=evaluation,
        text=text_label(options),
        bos=base.bos,
        own_rope=base.own_rope,
    )


def quant_spec(options: dict[str, Any]) -> QuantSpec | None:
    """None when no quantizer option was given at all."""
    k, v = options.get("k") or options.get("kv"), options.get("v") or options.get("kv")
    weights, qk = options.get("weights", "none"), options.get("qk", "none")
    grouped_weights = weights != "none" and options.get("weight_scale") == "group"
    if k in (None, "none") and v in (None, "none"):  # an option without its quantizer would do nothing
        for name in (
            "kv_scale",
            "kv_rotation",
            "k_before_rope",
            "keep_layers",
            *(() if grouped_weights else ("group_size",)),
        ):
            if options.get(name):
                raise BadSpec("has nothing to act on", where=_flag(name), do="add --k int4, --v int4 or --kv int4")
    if weights == "none" and options.get("weight_scale", "channel") != "channel":
        raise BadSpec("has nothing to act on", where="--weight-scale", do="add --weights int4")
    if weights in WEIGHT_PRESETS and options.get("weight_scale", "channel") != "channel":
        raise BadSpec(f"preset {weights} brings its own scales", where="--weights", do="drop --weight-scale")
    active = options.get("activations", "none")
    if k is None and v is None and weights == "none" and qk == "none" and active == "none":
        return None
    cache = {name: options.get(name) for name in ("kv_scale", "kv_rotation", "group_size")}
    if grouped_weights and cache["kv_scale"] not in ("block", "channel"):
        cache["group_size"] = None  # meant for the weights
    k_at, v_at = ("--kv" if options.get(name) is None else f"--{name}" for name in ("k", "v"))
    k_spec = parse_cache_option(k or "none", "k", **cache, where=k_at)
    if options.get("k_before_rope"):
        if k_spec is None:
            raise BadSpec("--k-before-rope needs a K quantizer", do="add --k int4")
        with about("--k-before-rope"):
            k_spec = replace(k_spec, before_rope=True)
    return QuantSpec(
        weights=parse_weights(
            weights,
            options.get("weight_scale", "channel"),
            options.get("group_size") or 128,
            where="--weights",
            do="choose none, int2..int8, w4a16",
        ),
        k=k_spec,
        v=parse_cache_option(v or "none", "v", **cache, where=v_at),
        qk=parse_activation(qk, where="--qk", do=INTEGERS),
        activations=parse_activation(active, where="--activations", do=INTEGERS),
        keep_layers=layers_of(options.get("keep_layers")),
        name=k if k is not None and k == v else "",
    )
