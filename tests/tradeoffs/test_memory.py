"""Memory at another length, by hand; the config alone says which layers see a window. And runs as points."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import qroar_core as qroar
from qroar_core.errors import BadCheckpoint
from qroar_core.models import load
from qroar_core.models.config_geometry import geometry_of
from qroar_core.retrieval.result import Retrieval
from qroar_core.runs.folder import RunFolder
from qroar_core.setting import default_setting
from qroar_core.setup import quantization
from qroar_core.specs import QuantSpec, RopeSpec
from qroar_core.tradeoffs import measured
from qroar_core.tradeoffs.measured import Measured, at_length, quant_under
from qroar_core.tradeoffs.point import Point, SetupKey
from qroar_core.tradeoffs.read_sweep import CELL
from qroar_core.tradeoffs.serving import serving_of
from tests.helpers import planted, planted_retrieval

KEY = SetupKey("tiny", "yarn", 2.0, "", 64, "technical", 0)


def test_layers_that_see_a_window_hold_less_of_a_token(tiny, monkeypatch):
    """Two layers of 2 KV heads of 32 + 32 numbers; the first sees 64 keys only. int4 per token: 16 bytes and a step."""
    loaded = tiny(head_dim=32, layers=2)
    geometry = replace(loaded.geometry, windows=(64, None))
    monkeypatch.setattr(measured, "geometry_at", lambda source: geometry)
    quant = quantization(kv="int4")
    monkeypatch.setattr(measured, "setting_of", lambda run: (SimpleNamespace(quant=quant), "tiny"))
    layer = 2 * 2 * (32 / 2 + 4)
    full = 2 * 2 * 32 * 2
    points = [
        Point("kv=int4", "none", 2 * layer, 0.1, run=Path("a")),
        Point("kv=int4", "first_last_layers", layer + full, 0.1, run=Path("a"), kept_layers=(1,)),
        Point("k=none", "none", 2 * full, 0.0, run=Path("a"), quantized=False),
    ]
    found = at_length(Measured("nll", {KEY: points}), 1024).points[KEY]
    share = 64 / 1024
    assert [one.bytes_per_token for one in found] == [layer * (1 + share), layer * share + full, full * (1 + share)]
    assert at_length(Measured("nll", {KEY: points}), 64).points[KEY] == points


def test_a_model_that_is_not_here_keeps_the_measured_bytes_and_that_is_said():
    found = at_length(Measured("nll", {KEY: [Point("kv=int4", "none", 80.0, 0.1)]}), 1024)
    assert found.points[KEY][0].bytes_per_token == 80.0
    assert (
        "Whether layers of tiny see a window only is not known here (its run folder is not on this disk)"
        in (found.notes[0])
    )


@pytest.mark.slow
def test_a_config_alone_says_the_geometry():
    found, loaded = geometry_of("demo"), load.run("demo", device="cpu").geometry
    for name in ("n_layers", "n_kv_heads", "head_dim", "rotary_dim", "pairing", "original_context", "windows"):
        assert getattr(found, name) == getattr(loaded, name)
    with pytest.raises(BadCheckpoint, match=r"^org/name: is not on this disk; name its folder$"):
        geometry_of("org/name")


def test_the_quantizers_of_a_remedy():
    plain = quantization(k="int4")
    assert quant_under(plain, "none") == plain
    assert quant_under(plain, "rotation").k.rotation == "hadamard"
    assert quant_under(plain, "first_last_layers", (0, 3)).keep_layers == (0, 3)
    assert quant_under(QuantSpec(), "rotation").is_none


@pytest.fixture
def run(tmp_path, demo_model):
    """A run of the demo with a planted evaluation, its scales kept."""
    setting = default_setting(demo_model, RopeSpec("yarn", 4.0), quantization(kv="int4"), 256)
    folder = RunFolder.open(tmp_path / "runs" / "one", demo_model, setting, "made by a test")
    made = planted.evaluation()
    (folder.path / "evaluation.json").write_text(made.to_json())
    return folder.path, made


@pytest.mark.slow
def test_a_folder_of_runs_has_a_point_a_condition(run):
    path, made = run
    found = qroar.tradeoff(path.parent)
    lengths = {row.length for row in made.rows}
    assert {one.key.length for one in found.setups} <= lengths
    (one,) = [one for one in found.setups if one.key.length == max(lengths)]
    length = max(lengths)
    by_name = {point.name: point for point in one.points}
    plain = by_name["K and V int4 per token"]
    reference = made.window_nll[f"{length}/reference/identity"]
    mine = made.window_nll[f"{length}/quantized/identity"]
    assert plain.units == pytest.approx([a - b for a, b in zip(mine, reference, strict=True)])
    assert plain.bytes_per_token == 4 * 2 * 2 * (64 / 2 + 4)  # layers, KV heads, K and V, a float32 step
    assert by_name["unquantized cache"].bytes_per_token == 4 * 2 * 2 * 64 * 2
    assert all(point.run == path for point in one.points)


@pytest.mark.slow
def test_needles_are_the_share_that_is_not_found(run):
    path, _ = run
    made = planted_retrieval.retrieval()
    (path / "retrieval.json").write_text(made.to_json())
    again = Retrieval.model_validate(json.loads((path / "retrieval.json").read_text()))
    found = qroar.tradeoff(path.parent, loss="needles", max_loss=0.5)
    length = again.lengths[0]
    (one,) = [one for one in found.setups if one.key.length == length]
    for point in one.points:
        model = "quantized" if point.quantized else "reference"
        scales = "tuned" if point.remedy == "scales" else "identity"
        mine = [t for t in again.trials if (t.length, t.model, t.scales) == (length, model, scales)]
        assert point.loss == pytest.approx(sum(t.outcome != "hit" for t in mine) / len(mine))
        assert point.low <= point.loss <= point.high


@pytest.mark.slow
def test_serving_says_the_export_and_the_cache(run):
    path, _ = run
    quantized = Point("kv=int4", "none", 576.0, 0.1, run=path)
    served = serving_of(quantized, 1024)
    assert served.export == "python -m qroar_core export demo --rope yarn --factor 4 --out checkpoint"
    code = next(recipe.code for name, recipe in served.recipes.items() if name.startswith("llama.cpp"))
    assert "-c 1024" in code
    assert "--yarn-orig-ctx 256" in code
    assert "--cache-type-k q4_0" in code
    (path / "scales.json").write_text("{}")
    scaled = serving_of(Point("kv=int4", "scales", 576.0, 0.1, run=path), 4096)
    assert f"--scales {path / 'scales.json'}" in scaled.export
    assert scaled.notes == ("The interpolation reaches 1,024 tokens, so no more are served here: raise its factor",)
    none = serving_of(Point("kv=int4", "awq", 576.0, 0.1, run=path), 1024)
    assert none.export == ""
    assert none.notes[0].startswith("No checkpoint with AWQ scale search is written here; it asks of the runtime: ")


def test_names_of_cells():
    assert CELL.fullmatch("demo-6de2e6efd55e8fe543b7")
    for wrong in ("", "..", "a/b", "/etc", ".hidden"):
        assert not CELL.fullmatch(wrong)
