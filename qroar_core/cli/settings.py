"""From option values to specs: the one place where the command line's words get their meaning."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qroar_core.cli.choices import CHOICES
from qroar_core.cli.early import SEARCH_FIELDS, about, check_specs, check_workers, kinds_of, scales_file
from qroar_core.cli.parse import AUTO, bands_spec, bounds_of, lengths_of, longrope_file
from qroar_core.cli.texts import text_label
from qroar_core.errors import BadSpec
from qroar_core.interpolations.rope_file import is_rope_file, rope_from_file
from qroar_core.interpolations.tie import Tie, parse_ties, ties_text
from qroar_core.quantizers.parse import parse_activation, parse_cache_option, parse_weights
from qroar_core.specs import (
    DiagnosisSpec,
    EvaluationSpec,
    QuantSpec,
    RopeSpec,
    SearchSpec,
)

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
        if name == "rope" and value is not None and is_rope_file(value):
            continue  # read below
        if value is not None and value not in known:
            raise BadSpec(f"unknown value {value!r}", where=_flag(name), do=f"choose one of {', '.join(known)}")
    for name, least in (
        ("bands", 1),
        ("windows", 1),
        ("length", 2),
        ("group_size", 2),
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
    return "--" + name.replace("_", "-")


def setting_of(options: dict[str, Any], loaded: LoadedModel) -> Setting:
    """Every spec of a command; what was not asked comes from `default_setting` of the model."""
    from qroar_core.evaluation.run import must_rotate
    from qroar_core.setting import Setting, default_setting
    from qroar_core.specs.stages import LEAST_DIAGNOSED

    check(options)
    rope, quant = rope_spec(options), quant_spec(options)
    base = default_setting(loaded, rope, quant, options.get("length"), options.get("bos", "auto"))
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


def rope_spec(options: dict[str, Any]) -> RopeSpec | None:
    """None when neither --rope nor --factor was given."""
    method, factor = options.get("rope"), options.get("factor")
    if method is not None and is_rope_file(method):
        return _rope_of_file(method, options)
    lists: dict[str, Any] = longrope_file(options.get("longrope_factors"))
    with about("--tie"):
        tie = _ties(options)
    if method is None and factor is None:
        if tie or options.get("tie") == AUTO:
            raise BadSpec(
                "tied pairs change an interpolation, and none is named",
                where="--tie",
                do="add --rope default for the checkpoint's own, or --rope yarn --factor 2",
            )
        if lists:
            raise BadSpec("factor lists need --rope longrope", where="--longrope-factors")
        return None
    if lists and method not in (None, "longrope"):
        raise BadSpec(f"--rope {method} takes no factor lists", where="--longrope-factors", do="drop it")
    if method is None:
        raise BadSpec(f"--factor {factor} needs a method", do="add --rope yarn (or linear, ntk, dynamic, llama3)")
    if method not in ("default",) and factor is None:
        raise BadSpec(f"--rope {method} needs a factor", do="add --factor, for example --factor 2")
    with about("--factor"):
        return RopeSpec(method=method, factor=factor if factor is not None else 1.0, tie=tie, **lists)


def _rope_of_file(path: str, options: dict[str, Any]) -> RopeSpec:
    """The interpolation of `--rope FILE.json`; other options may repeat what the file says, and tie its pairs.

    Raises:
        BadSpec: the file, or an option that says something else.
    """
    spec, factor, tie = rope_from_file(path), options.get("factor"), options.get("tie")
    if factor is not None and factor != spec.factor:
        raise BadSpec(f"{path} has factor {spec.factor:g}, not {factor:g}", where="--factor", do="leave it out")
    if options.get("longrope_factors"):
        raise BadSpec(f"{path} says the interpolation", where="--longrope-factors", do="leave one of the two out")
    if tie is None:
        return spec
    if spec.tie and (tie == AUTO or parse_ties(tie) != spec.tie):
        raise BadSpec(f"{path} ties {ties_text(spec.tie)} already", where="--tie", do="leave it out")
    with about("--tie"):
        return spec if spec.tie else replace(spec, tie=_ties(options))


def _ties(options: dict[str, Any]) -> tuple[Tie, ...]:
    """Groups named by `--tie`, else those without which the maps or offset of `--scales` would be another model's.

    Raises:
        BadSpec: `auto` where nothing is searched, or without maps, which alone make a tie pay.
    """
    text, file = options.get("tie"), options.get("scales")
    if text == AUTO:
        if "maps" not in options:
            raise BadSpec("groups are chosen before a search", do="name them, or search with --tie auto --maps")
        if not options["maps"]:
            raise BadSpec("a tie only makes room for maps", do="add --maps")
        return ()
    if text is None and file:
        content = scales_file("--scales", file)
        named = options.get("rope"), options.get("factor") or 1.0
        if (content.maps or content.k_offset) and named == (content.rope.get("method"), content.rope.get("factor")):
            from qroar_core.transforms.file import rope_from

            return rope_from(content.rope).tie
    return parse_ties(text or "")


def quant_spec(options: dict[str, Any]) -> QuantSpec | None:
    """None when no quantizer option was given at all."""
    k, v = options.get("k") or options.get("kv"), options.get("v") or options.get("kv")
    weights, qk = options.get("weights", "none"), options.get("qk", "none")
    grouped_weights = weights != "none" and options.get("weight_scale") == "group"
    if k in (None, "none") and v in (None, "none"):  # an option without its quantizer would do nothing
        for name in ("kv_scale", "kv_rotation", "k_before_rope", *(() if grouped_weights else ("group_size",))):
            if options.get(name):
                raise BadSpec("has nothing to act on", where=_flag(name), do="add --k int4, --v int4 or --kv int4")
    if weights == "none" and options.get("weight_scale", "channel") != "channel":
        raise BadSpec("has nothing to act on", where="--weight-scale", do="add --weights int4")
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
        name=k if k is not None and k == v else "",
    )
