"""The command a setting is spelled with, read back by the real command line."""

import shlex
from dataclasses import replace

import pytest

from qroar_core.cli.reproduce import evaluate_command, export_command, run_command
from qroar_core.cli.settings import setting_of
from qroar_core.interpolations.tie import Tie
from qroar_core.models.family_preset import for_family
from qroar_core.quantizers.presets import preset_quant
from qroar_core.setting import default_setting
from qroar_core.specs import BandSpec, QuantizerSpec, QuantSpec, RopeSpec, WeightQuantSpec


def read_back(command, loaded, monkeypatch):
    """The setting that `command`, given to typer, would run."""
    from typer.main import get_command

    from qroar_core.cli import app as faces

    seen = {}

    class Enough(Exception):
        pass

    def stop(options):
        seen.update(options)
        raise Enough

    monkeypatch.setattr(faces, "documents", stop)
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "qroar_core"]
    with pytest.raises(Enough):
        get_command(faces.app).main(args=words[3:], standalone_mode=False)
    return setting_of(seen, loaded)


def built(loaded, quant=None, rope=None, length=None, search=(), **more):
    setting = default_setting(loaded, rope, quant, length)
    search = dict(search)
    bands = search.get("bands", setting.search.bands)
    setting = replace(
        setting,
        search=replace(setting.search, **search),
        diagnosis=replace(setting.diagnosis, bands=bands, seed=search.get("seed", 0)),
        evaluation=replace(setting.evaluation, seed=search.get("seed", 0)),
    )
    return replace(setting, **more)


INT4 = QuantizerSpec(4)
CASES = {
    "default": {},
    "bos": {"bos": True},
    "kv": {"quant": QuantSpec(k=INT4, v=INT4)},
    "k and v apart": {"quant": QuantSpec(k=INT4, v=QuantizerSpec(8))},
    "kept layers": {"quant": QuantSpec(k=INT4, v=INT4, keep_layers=(0, 3))},
    "block": {"quant": QuantSpec(k=QuantizerSpec(4, "block", group_size=16))},
    "rotated": {"quant": QuantSpec(k=QuantizerSpec(4, rotation="hadamard"))},
    "before rope": {"quant": QuantSpec(k=QuantizerSpec(5, before_rope=True))},
    "llama.cpp": {"quant": for_family(preset_quant("q4_0"), "llama")},
    "weights": {"quant": QuantSpec(weights=WeightQuantSpec(4, "group", 64))},
    "w4a16": {"quant": preset_quant("w4a16")},
    "all": {"quant": QuantSpec(weights=WeightQuantSpec(8, "tensor", 128), k=INT4, qk=QuantizerSpec(8))},
    "rope": {"rope": RopeSpec("linear", 2.5), "length": 300},
    "own rope": {"rope": RopeSpec()},
    "tied": {"rope": RopeSpec("yarn", 4.0, tie=(Tie(20, 21), Tie(22, 25, 0.85), Tie(26, 31, 0.0)))},
    "own rope, tied": {"rope": RopeSpec(tie=(Tie(26, 31, 0.0),))},
    "search": {
        "search": {
            "mode": "shared",
            "granularity": "layer",
            "method": "coordinate",
            "seed": 3,
            "bands": BandSpec(4, "log"),
        }
    },
    "error_metric": {"search": {"error_metric": "logits"}},
    "text": {"text": "technical"},
    "bounds": {"search": {"bands": BandSpec(2), "bounds": ((-1.5, 2.0), (-0.25, 0.25))}},
}


@pytest.mark.parametrize("case", CASES)
def test_the_command_means_the_setting_it_was_made_from(demo, monkeypatch, case):
    setting = built(demo, **CASES[case])
    command, left = run_command(demo, setting)
    assert left == []
    assert read_back(command, demo, monkeypatch) == setting


@pytest.mark.parametrize(
    ("rule", "parameter", "words"),
    [
        ("mad", None, "--outlier-rule mad"),
        ("iqr", 2.5, "--outlier-parameter 2.5"),
        ("percentile", 0.995, "--outlier-rule percentile --outlier-parameter 0.995"),
    ],
)
def test_the_outlier_rule_and_its_parameter_are_spelled(demo, monkeypatch, rule, parameter, words):
    setting = built(demo)
    asked = replace(setting.diagnosis, outlier_rule=rule, outlier_parameter=parameter)
    setting = replace(setting, diagnosis=asked)
    command, left = run_command(demo, setting)
    assert left == []
    assert words in command
    assert read_back(command, demo, monkeypatch) == setting


def test_the_usual_setting_is_a_short_command(demo):
    command, _ = run_command(demo, default_setting(demo))
    assert command == "python -m qroar_core run demo --rope yarn --factor 4 --k int4 --out runs/again"
    measure, _ = evaluate_command(demo, default_setting(demo), "scales.json")
    assert measure == "python -m qroar_core evaluate demo --rope yarn --factor 4 --k int4 --scales scales.json"


def test_lengths_windows_and_the_second_search_are_spelled(demo, monkeypatch):
    setting = built(demo)
    asked = replace(setting.evaluation, windows=3, lengths=(128, 1024), rotation_scales=True)
    setting = replace(setting, search=replace(setting.search, windows=3), evaluation=asked)
    command, left = run_command(demo, setting)
    assert left == []
    assert read_back(command, demo, monkeypatch) == setting
    assert "--rotation-scales" in command


def test_the_distance_law_is_spelled(demo):
    setting = built(demo)
    command, left = run_command(demo, replace(setting, diagnosis=replace(setting.diagnosis, law="uniform")))
    assert "--distance-law uniform" in command
    assert left == []
    assert "--distance-law" not in run_command(demo, setting)[0]


def test_draws_of_the_nulls_and_the_output_cost_are_spelled(demo, monkeypatch):
    setting = built(demo)
    setting = replace(setting, diagnosis=replace(setting.diagnosis, null_draws=8, band_cost=True))
    command, left = run_command(demo, setting)
    assert left == []
    assert read_back(command, demo, monkeypatch) == setting
    assert command.endswith("--null --band-cost --out runs/again")
    other = replace(setting, diagnosis=replace(setting.diagnosis, null_draws=3))
    assert run_command(demo, other)[1] == ["diagnosis.null_draws"]  # no option says 3


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"search": {"max_log2_scale": 2.0}}, ["search.max_log2_scale"]),
        ({"rope": RopeSpec("yarn", 4.0, beta_fast=16.0)}, ["rope.beta_fast"]),
        ({"quant": QuantSpec(k=QuantizerSpec(4, residual=32))}, ["quant.k.residual"]),
    ],
)
def test_what_no_option_spells_is_named(demo, change, named):
    assert run_command(demo, built(demo, **change))[1] == named


@pytest.mark.parametrize(
    ("rope", "words"),
    [
        (RopeSpec("ntk", 2.2156, tie=(Tie(28, 31, 0.0),)), "--rope ntk --factor 2.2156 --tie 28-31:0"),
        (RopeSpec("yarn", 4.0, attention_factor=1.2), "--rope rope.json"),
        (RopeSpec("yarn", 4.0, beta_fast=24.0), "--rope rope.json"),
    ],
)
def test_an_export_names_a_file_for_an_interpolation_that_options_do_not_spell(demo, rope, words):
    command = export_command(demo, default_setting(demo, rope), "hf", "out", None)
    assert f"--format hf {words} --out out" in command
    assert "--rope" not in export_command(demo, default_setting(demo, rope), "hf", "out", "scales.json")
