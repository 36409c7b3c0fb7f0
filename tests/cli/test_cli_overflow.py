"""Overflow on the command line: a stage ends in one line and writes nothing; a perplexity past float is infinite."""

from __future__ import annotations

import json
import math

import pytest
import torch

from qroar_core.errors import NonFinite
from qroar_core.evaluation import continuations, figure_kl
from qroar_core.evaluation import figure as figures
from qroar_core.evaluation.headline import headline
from qroar_core.evaluation.result import Evaluation
from qroar_core.evidence.replication.claims import perplexity
from qroar_core.evidence.replication.result import Claim
from qroar_core.models.text import split
from qroar_core.remedies import figure as comparison_figures
from qroar_core.remedies.result import Comparison
from qroar_core.result import exp
from qroar_core.setting import Setting
from qroar_core.specs import ContinuationSpec, QuantizerSpec, QuantSpec, RopeSpec
from qroar_core.transforms.file import to_file
from qroar_core.transforms.scales import Scales
from tests.cli.command import printed, refused

INT4 = QuantSpec(k=QuantizerSpec(4))
SMALL = ("--rope", "linear", "--factor", 2, "--length", 96, "--k", "int4")
STAGES = {
    "diagnose": (),
    "search": ("--windows", 2),
    "evaluate": (),
    "retrieve": ("--trials", 1, "--lengths", "512"),
    "compare": ("--methods", "rotation", "--windows", 2),
    "replicate": ("--windows", 2),
    "predict": ("--windows", 2),
    "controls": ("--windows", 2),
    "run": ("--windows", 2),
}


@pytest.fixture
def loads(monkeypatch):
    """`loads(model)`: every command loads this one."""
    from qroar_core.models import load

    return lambda loaded: monkeypatch.setattr(load, "run", lambda source, **options: loaded) or loaded


def grown(loaded, name, times):
    with torch.no_grad():
        loaded.model.get_parameter(name).mul_(times)
    return loaded


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_whose_activations_overflow_says_it_in_one_line_and_writes_nothing(capfd, loads, tiny, tmp_path, stage):
    loads(grown(tiny(dtype=torch.float16), "model.layers.1.self_attn.k_proj.weight", 30_000.0))
    line = refused(capfd, stage, "demo", *SMALL, *STAGES[stage], "--out", tmp_path / "o")
    assert "float16: k of layer 1 at position 0 is not finite; float16 ends at 65504: take --dtype bfloat16" in line
    assert "linear ×2" in line
    assert sorted(p.name for p in tmp_path.rglob("*.json")) == (["manifest.json"] if stage == "run" else [])


def test_a_head_that_overflows_in_float16_is_no_infinite_perplexity(capfd, loads, tiny):
    loads(grown(tiny(dtype=torch.float16), "lm_head.weight", 20_000.0))
    line = refused(capfd, "evaluate", "demo", *SMALL)
    assert "the NLL of window 0, target 0, is not finite" in line


def test_continuations_refuse_a_logit_that_is_no_number(tiny):
    loaded = grown(tiny(dtype=torch.float16), "lm_head.weight", 20_000.0)
    spec = ContinuationSpec(length=14, tokens=4, prompt="ten more l")
    with pytest.raises(NonFinite, match="a logit at position 9 is not finite"):
        continuations.run(loaded, Setting(RopeSpec(), INT4), None, None, spec, split("heldout"))


def test_an_export_whose_scaled_weight_overflows_writes_nothing(capfd, loads, tiny, tmp_path):
    loaded = loads(tiny(dtype=torch.float16))
    geo = loaded.geometry
    scales = Scales("shared", "model", ((0, geo.n_pairs - 1),), torch.full((geo.n_layers, geo.n_kv_heads, 1), 2.0**20))
    (tmp_path / "s.json").write_text(to_file(loaded, RopeSpec(), INT4, scales).to_json())
    line = refused(capfd, "export", "demo", "--scales", tmp_path / "s.json", "--out", tmp_path / "o")
    assert line.startswith("float16: model.layers.0.self_attn.q_proj.weight times its scales is not finite; ")
    assert not (tmp_path / "o").exists()
    assert not list(tmp_path.glob(".o-*"))


@pytest.mark.parametrize("format", ["hf", "w4a16", "gguf-bf16"])
def test_an_export_of_a_model_that_overflows_by_itself_says_the_line_of_every_stage(
    capfd, loads, tiny, demo, tmp_path, format
):
    """Every weight is a fine number; q . k is past float32. The layer is named by hand: q and k are the second's."""
    loaded = loads(tiny(hidden_size=64, head_dim=32, vocab_size=len(demo.tokenizer)))
    loaded.tokenizer = demo.tokenizer
    for name in ("q_proj", "k_proj"):
        grown(loaded, f"model.layers.1.self_attn.{name}.weight", 1e20)
    small = ("--group-size", 32) if format == "w4a16" else ()
    line = refused(capfd, "export", "demo", "--format", format, *small, "--out", tmp_path / "o")
    assert "the attention output of layer 1 at position 0 is not finite; the checkpoint's own weights overflow" in line
    assert list(tmp_path.iterdir()) == []
    said = refused(capfd, "evaluate", "demo", "--length", 96, "--k", "int4")
    assert said.rpartition("; ")[2] == line.rpartition("; ")[2]
    assert "of layer 1 at position 0 is not finite" in said


def test_an_export_that_overflows_the_files_own_format_writes_nothing(capfd, loads, tiny, tmp_path, monkeypatch):
    """Loaded as float32 from a float16 file; the scales carry a row past 65504."""
    from qroar_core.exporters import hf

    loaded = loads(tiny())
    monkeypatch.setattr(hf, "written_dtype", lambda *_: (torch.float16, "float16, as the checkpoint has them"))
    geo = loaded.geometry
    times = torch.full((geo.n_layers, geo.n_kv_heads, 1), 2.0**20)
    scales = Scales("symmetric", "model", ((0, geo.n_pairs - 1),), times)
    (tmp_path / "s.json").write_text(to_file(loaded, RopeSpec(), INT4, scales).to_json())
    line = refused(capfd, "export", "demo", "--scales", tmp_path / "s.json", "--out", tmp_path / "o")
    assert line.startswith("export: model.layers.0.self_attn.q_proj.weight holds ")
    assert line.endswith(", float16 ends at 6.55e+04; add --dtype bfloat16")
    assert [path.name for path in tmp_path.iterdir()] == ["s.json"]


@pytest.fixture
def endless(loads, tiny):
    """A head so large that the mean NLL lies above 709.8 nats: its perplexity is past every float."""
    return loads(grown(tiny(), "lm_head.weight", 400.0))


def test_a_perplexity_past_float_is_infinite_in_the_table_the_json_and_the_file(capfd, endless, tmp_path):
    shown = json.loads(printed(capfd, "evaluate", "demo", *SMALL, "--json", "--out", tmp_path / "o"))
    kept = Evaluation.from_file(tmp_path / "o" / "evaluation.json")
    first = kept.rows[0]
    assert first.nll > 709.8
    assert first.ppl == math.inf
    assert shown["rows"][0]["ppl"] == "Infinity"
    assert "Infinity" not in (tmp_path / "o" / "evaluation.json").read_text().replace('"Infinity"', "")  # strict JSON
    assert "inf" in printed(capfd, "evaluate", "demo", *SMALL).split()
    drawn = figures.perplexity_by_length(kept)
    assert drawn.how_to_read.startswith("Infinite, so not drawn: reference at ")
    assert "Infinity" not in drawn.figure.to_json()
    assert figure_kl.readable(figure_kl.table(kept))["PPL"][0].startswith("inf")
    figures.by_position(kept)
    assert headline(kept)[0].value == "inf"


def test_a_comparison_with_infinite_perplexity_is_written_and_read(capfd, endless, tmp_path):
    printed(
        capfd,
        "compare",
        "demo",
        *SMALL,
        "--windows",
        2,
        "--methods",
        "rotation",
        "--no-band-scales",
        "--out",
        tmp_path / "l",
    )
    made = Comparison.from_file(tmp_path / "l" / "comparison.json")
    assert made.reference_ppl == math.inf
    assert made.rows[0].ppl == math.inf
    assert comparison_figures.table(made)["ppl"][0] == math.inf


def test_exp_is_e_to_the_power_of_and_infinite_past_float():
    assert exp(709.7) == math.exp(709.7)
    assert exp(709.8) == math.inf
    assert exp(-800.0) == 0.0


def test_a_claim_about_a_perplexity_that_grows_past_float_is_read_back():
    claim = perplexity([1.0, 2.0], [901.0, 903.0], 0.1, 0.95, 64)
    assert claim.value.mean == -math.inf
    assert claim.verdict == "does not hold"
    assert Claim.model_validate_json(claim.to_json()).value.mean == -math.inf
    near = perplexity([1.0, 1.0, 1.0], [0.9, 0.9, 0.9], 0.05, 0.95, 64)
    assert near.value.mean == pytest.approx(100 * (1 - math.exp(-0.1)), rel=1e-12)
