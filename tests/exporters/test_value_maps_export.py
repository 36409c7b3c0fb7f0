"""Exports with value maps: stock transformers and llama.cpp compute the same model, finished codes refuse them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from qroar_core.errors import BadScales
from qroar_core.exporters import gguf_write, hf, quantized_copy, verify, w4a16
from qroar_core.exporters.written_rope import written_parameters
from qroar_core.models.load import run as load_model
from qroar_core.models.stream import Condition
from qroar_core.specs import RopeSpec
from qroar_core.transforms.scales import require_scales_alone
from tests.exporters.test_export import logits_under, random_scales
from tests.exporters.test_tied_export import YARN


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("QROAR_CACHE", str(tmp_path / "cache"))


def mixing(loaded, scales=None):
    """Scales with well-conditioned value maps."""
    geo = loaded.geometry
    shape = geo.n_layers, geo.n_kv_heads, geo.value_dim, geo.value_dim
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    maps = torch.linalg.qr(drawn).Q * torch.linspace(0.5, 2.0, geo.value_dim, dtype=torch.float64)
    return replace(scales or random_scales(), value_maps=maps)


@pytest.fixture
def source(tiny, tmp_path):
    """A tiny model that was read from a folder, so that `verify` finds it again."""
    folder = hf.run(tiny(), RopeSpec(), None, tmp_path / "source")
    return load_model(str(folder), device="cpu", dtype="float32")


@pytest.mark.parametrize("rope", [RopeSpec("yarn", 4.0), YARN], ids=["yarn", "tied, its factor in W_Q and W_K"])
def test_stock_transformers_gives_the_source_models_logits(source, ids, tmp_path, rope):
    tokens = ids(1, 96)
    folder = hf.run(source, rope, mixing(source), tmp_path / "out")
    with torch.inference_mode():
        got = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(tokens).logits[0, :-1]
    torch.testing.assert_close(got, logits_under(source, Condition(rope), tokens), rtol=0, atol=1e-4)
    new = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    old = source.model.state_dict()
    for name in ("v_proj", "o_proj"):
        at = f"model.layers.0.self_attn.{name}.weight"
        assert not torch.allclose(new[at], old[at])


def test_verify_passes_and_sees_maps_that_were_left_out(source, tmp_path, monkeypatch):
    scales = mixing(source)
    folder = hf.run(source, RopeSpec("linear", 2.0), scales, tmp_path / "out")
    checks = verify.run(folder)
    assert [check for check in checks if check.passed is not True] == []
    note = json.loads((folder / "qroar.json").read_text())
    assert (note["changed"], note["mixed"]) == (["q_proj", "k_proj"], ["v_proj", "o_proj"])
    card = (folder / "README.md").read_text()
    assert "16 channels of each of 4 KV heads mixed by a matrix in v_proj, and by its inverse in o_proj" in card

    def only_v(loaded, scales, factor):
        """As a writer would leave it that knows W_V alone."""
        new = written_parameters(loaded, scales, factor)
        return {name: value for name, value in new.items() if "o_proj" not in name}

    monkeypatch.setattr(hf, "written_parameters", only_v)
    checks = verify.run(hf.run(source, RopeSpec("linear", 2.0), scales, tmp_path / "half"))
    wrong = [check.question for check in checks if check.passed is False]
    assert wrong == ["weights against the source's", "logits against the source model"]


def test_llama_cpp_gives_the_source_models_log_probabilities(demo, tmp_path):
    pytest.importorskip("xllamacpp")
    geo = demo.geometry
    from qroar_core.transforms.scales import identity

    scales = mixing(demo, identity(geo.n_layers, geo.n_kv_heads, ((0, geo.n_pairs - 1),)))
    folder = gguf_write.run(demo, RopeSpec("yarn", 2.0), scales, tmp_path / "out", format="gguf-f16")
    note = json.loads((folder / "qroar.json").read_text())
    assert (note["changed"], note["mixed"]) == ([], ["attn_v", "attn_output"])
    assert "Scales: none." in (folder / "README.md").read_text()
    checks = verify.run(folder)
    assert [check for check in checks if check.passed is not True] == []
    assert any("llama.cpp" in check.question for check in checks)


def test_weights_that_are_rounded_anew_take_them_and_finished_codes_do_not(tiny, tmp_path):
    written = hf.run(tiny(hidden_size=64), RopeSpec(), None, tmp_path / "source")
    source = load_model(str(written), device="cpu", dtype="float32")
    scales = mixing(source)
    folder = w4a16.run(source, RopeSpec("linear", 2.0), scales, tmp_path / "w4", group_size=32)
    assert json.loads((folder / "qroar.json").read_text())["mixed"] == ["v_proj", "o_proj"]
    logits = next(check for check in verify.run(folder) if check.question == "logits against the source model")
    assert logits.passed, logits.answer  # rounded where the maps have put them
    again = load_model(str(folder), device="cpu", dtype="float32")
    plain = replace(scales, g=torch.ones_like(scales.g), angles=None)
    with pytest.raises(BadScales, match=r"columns of W_O, as value maps do; finished codes stay.*without --value-maps"):
        quantized_copy.run(again, RopeSpec(), plain, tmp_path / "copy")
    with pytest.raises(BadScales, match="as value maps do"):
        require_scales_alone(plain)
    require_scales_alone(replace(plain, value_maps=None))
