"""The commands `controls` and `replicate`, beside those of `cli.app`: each needs several searches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from qroar_core.cli import tables_of_evidence
from qroar_core.cli.check_options import about
from qroar_core.cli.harness_options import HARNESS, claimed_on
from qroar_core.cli.options import BANDS, CONTROLS, EVALUATE, MODEL, OUT, OUTLIERS, REPLICATE, SEARCH, SETTING
from qroar_core.cli.root import app, load_model, new_folder, say_bands, written
from qroar_core.cli.rope_options import rope_spec
from qroar_core.cli.settings import setting_of
from qroar_core.cli.tables import progress
from qroar_core.cli.takes import takes
from qroar_core.cli.texts import documents
from qroar_core.errors import BadSpec
from qroar_core.quantizers.parse import parse_cache_option
from qroar_core.specs import ControlSpec, QuantSpec, ReplicationSpec, RopeSpec


@app.command()
@takes(MODEL, SETTING, BANDS, OUTLIERS, SEARCH, EVALUATE[:1], CONTROLS, OUT, intervals=True)
def controls(options: dict) -> None:
    """Measure what else the gain could come from: any spread of scales, retuning, text, seed, number format."""
    from qroar_core.evidence.controls import run as stage
    from qroar_core.scale_search.search_without_decision import find_scales
    from qroar_core.transforms.file import from_file

    folder, texts, spec = new_folder(options), documents(options), control_spec(options)
    loaded = load_model(options)
    setting = setting_of(options, loaded)
    spec = replace(spec, windows=setting.evaluation.windows, fewer=setting.evaluation.fewer)
    with progress() as on_step:
        if options.get("scales"):
            scales = from_file(options["scales"], loaded)[0]
        else:
            scales = find_scales(loaded, setting, texts, None, on_step)
        result = stage.run(loaded, setting, scales, spec, texts, None, on_step)
    result = written(folder, "controls.json", result)
    say_bands(options, loaded)
    tables_of_evidence.controls(result, options["json"])


@app.command()
@takes(MODEL, SETTING, BANDS, OUTLIERS, SEARCH, REPLICATE, HARNESS, OUT, intervals=True)
def replicate(options: dict) -> None:
    """Test the papers' claims on this model, setup by setup."""
    from qroar_core.evidence.replication import run as stage

    folder, texts = new_folder(options), documents(options)
    with about("--tolerance"):
        spec = ReplicationSpec(tolerance=options["tolerance"], seed=options["seed"])
    tasks = claimed_on(options)
    pairs_of(options, rope_spec(options) or RopeSpec("yarn", options["factor"] or 2.0), QuantSpec())
    loaded = load_model(options)
    setting = setting_of(options, loaded)
    spec = replace(spec, windows=setting.evaluation.windows, fewer=setting.evaluation.fewer)
    with progress() as on_step:
        pairs = pairs_of(options, setting.rope, setting.quant)
        result = stage.run(loaded, setting, pairs, spec, texts, on_step, tasks=tasks)
    result = written(folder, "replication.json", result)
    say_bands(options, loaded)
    tables_of_evidence.replication(result, options["json"])


def control_spec(options: dict[str, Any]) -> ControlSpec:
    """The options of `controls`, without windows: those depend on the length.

    Raises:
        BadSpec: names the option.
    """
    from qroar_core.models.text import COLLECTIONS

    texts = _listed(options["other_texts"] or "")
    if unknown := [name for name in texts if name not in COLLECTIONS]:
        raise BadSpec(
            f"unknown collection {unknown[0]!r}", where="--other-texts", do=f"choose from {', '.join(COLLECTIONS)}"
        )
    if options["other_seeds"] < 0:
        raise BadSpec(f"must be at least 0, got {options['other_seeds']}", where="--other-seeds", do="give 0 or more")
    first, formats = options["seed"] + 1, options["formats"]
    try:
        return ControlSpec(
            shuffles=options["shuffles"],
            seeds=tuple(range(first, first + options["other_seeds"])),
            collections=texts,
            dtypes=() if formats == "none" else _listed(formats),
            seed=options["seed"],
        )
    except BadSpec as problem:
        where = "--formats" if "number format" in problem.what else "--shuffles"  # all else is checked or fixed
        raise BadSpec(problem.what, where=where, do=problem.do) from None


def pairs_of(options: dict[str, Any], rope: RopeSpec, quant: QuantSpec) -> list[tuple[RopeSpec, QuantSpec]]:
    """Every interpolation with every quantizer that was asked; `rope` and `quant` where nothing else was.

    Raises:
        BadSpec: an unknown method or quantizer, or methods without a factor.
    """
    ropes, quants = [rope], [quant]
    if options["methods"]:
        if rope.method == "default":
            raise BadSpec("methods need a factor", where="--methods", do="add --rope yarn --factor 2")
        with about("--methods"):
            ropes = [
                rope if name == rope.method else RopeSpec(name, rope.factor, tie=rope.tie)
                for name in _listed(options["methods"])
            ]
    if options["quantizers"]:
        quants = [
            QuantSpec(k=parse_cache_option(name, "k", where="--quantizers"), name=name)
            for name in _listed(options["quantizers"])
        ]
    return [(one, other) for other in quants for one in ropes]


def _listed(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
