"""Exports with a polish of tied pairs: stock transformers and GGUF files hold the model that was measured."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from qroar_core.exporters import gguf_write, hf, verify
from qroar_core.exporters.written_rope import written_parameters
from qroar_core.interpolations.tie import Tie
from qroar_core.models.load import run as load_model
from qroar_core.models.stream import Condition
from qroar_core.specs import RopeSpec
from qroar_core.transforms.scales import identity
from tests.exporters.test_export import logits_under
from tests.transforms.test_kinds import drawn_polish

ROPE = RopeSpec("yarn", 2.0, tie=(Tie(22, 25), Tie(26, 31, 0.0)))  # its factor goes into W_Q and W_K


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("QROAR_CACHE", str(tmp_path / "cache"))


def polished(demo):
    geo = demo.geometry
    none = identity(geo.n_layers, geo.n_kv_heads, ((0, geo.n_pairs - 1),))
    return replace(none, polish=drawn_polish(demo, ROPE))


def test_a_folder_gives_stock_transformers_the_polished_model_and_verify_misses_a_lost_polish(
    demo, ids, tmp_path, monkeypatch
):
    tokens, scales = ids(1, 96), polished(demo)
    folder = hf.run(demo, ROPE, scales, tmp_path / "out")
    again = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        got = again(tokens).logits[0, :-1]
    wanted = logits_under(demo, Condition(ROPE, scales=scales), tokens)
    torch.testing.assert_close(got, wanted, rtol=0, atol=2e-3)
    assert float((wanted - logits_under(demo, Condition(ROPE), tokens)).abs().max()) > 0.1
    assert [check for check in verify.run(folder) if check.passed is not True] == []
    assert json.loads((folder / "qroar.json").read_text())["changed"] == ["q_proj", "k_proj"]
    card = (folder / "README.md").read_text()
    assert "Polish: rows of q and k of tied RoPE pairs 26 to 31 mixed anew" in card
    assert "This is not exact: it changes the model under the tie." in card

    def lost(loaded, scales, factor):
        return written_parameters(loaded, None, factor)

    monkeypatch.setattr(hf, "written_parameters", lost)
    checks = verify.run(hf.run(demo, ROPE, scales, tmp_path / "other"))
    wrong = [check.question for check in checks if check.passed is False]
    assert wrong == ["weights against the source's", "logits against the source model"]


def test_a_gguf_file_holds_it_too(demo, ids, tmp_path):
    tokens, scales = ids(1, 96), polished(demo)
    folder = gguf_write.run(demo, ROPE, scales, tmp_path / "out", format="gguf-f16")
    (path,) = folder.glob("*.gguf")
    again = load_model(str(path), device="cpu", dtype="float32")
    got = logits_under(again, Condition(RopeSpec()), tokens)
    wanted = logits_under(demo, Condition(ROPE, scales=scales), tokens)
    torch.testing.assert_close(got, wanted, rtol=0, atol=3e-2)  # weights of 16 bits
    assert float((wanted - logits_under(demo, Condition(ROPE), tokens)).abs().max()) > 0.1
    checks = verify.run(folder)
    assert [check for check in checks if check.passed is False] == []
    assert any(check.passed for check in checks)
