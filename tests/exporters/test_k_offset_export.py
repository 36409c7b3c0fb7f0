"""Exports with a K offset: stock transformers and llama.cpp compute the same model; who has no key bias refuses it."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import gguf
import pytest
import torch
from transformers import AutoModelForCausalLM

from qroar_core.errors import BadScales, BadSpec
from qroar_core.exporters import gguf_write, hf, quantized_copy, verify, w4a16
from qroar_core.exporters.written_rope import written_parameters
from qroar_core.interpolations.tie import Tie
from qroar_core.models.load import run as load_model
from qroar_core.models.patch import apply_scales, undo_scales
from qroar_core.models.stream import Condition
from qroar_core.specs import RopeSpec
from qroar_core.transforms.groups import still_channels
from qroar_core.transforms.scales import identity
from tests.exporters.test_export import logits_under, random_scales
from tests.exporters.test_tied_export import YARN
from tests.models.families_table import CASES, loaded_of


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("QROAR_CACHE", str(tmp_path / "cache"))


def shifting(loaded, rope, scales):
    """Scales with an offset that the model would notice anywhere but on channels that stand still."""
    geo, generator = loaded.geometry, torch.Generator().manual_seed(4)
    drawn = torch.randn(geo.n_layers, geo.n_kv_heads, geo.head_dim, generator=generator, dtype=torch.float64)
    return replace(scales, k_offset=2 * drawn * still_channels(geo, rope)[:, None])


@pytest.fixture
def source(tiny, tmp_path):
    """A tiny model that was read from a folder, so that `verify` finds it again."""
    folder = hf.run(tiny(), RopeSpec(), None, tmp_path / "source")
    return load_model(str(folder), device="cpu", dtype="float32")


def test_stock_transformers_gives_the_source_models_logits_with_biases_of_its_config(source, ids, tmp_path):
    tokens = ids(1, 96)
    scales = shifting(source, YARN, random_scales())
    folder = hf.run(source, YARN, scales, tmp_path / "out")  # YaRN's factor is in W_K and its new bias
    assert json.loads((folder / "config.json").read_text())["attention_bias"] is True
    assert not source.model.config.attention_bias
    again = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        got = again(tokens).logits[0, :-1]
    torch.testing.assert_close(got, logits_under(source, Condition(YARN), tokens), rtol=0, atol=1e-4)
    attention = again.model.layers[0].self_attn
    assert attention.k_proj.bias.any()
    for name in ("q_proj", "v_proj", "o_proj"):
        assert not getattr(attention, name).bias.any()
    assert source.model.model.layers[0].self_attn.k_proj.bias is None


def test_verify_passes_and_sees_an_offset_that_was_halved(source, tmp_path, monkeypatch):
    scales = shifting(source, YARN, random_scales())
    folder = hf.run(source, YARN, scales, tmp_path / "out")
    checks = verify.run(folder)
    assert [check for check in checks if check.passed is not True] == []
    assert json.loads((folder / "qroar.json").read_text())["bias"] == ["k_proj"]
    said = "a constant taken off the channels of K that do not turn, for each of 4 KV heads, in the bias of k_proj"
    assert said in (folder / "README.md").read_text()

    def in_one_channel(loaded, scales, factor):
        """As a writer would leave it that puts a number where K turns."""
        new = written_parameters(loaded, scales, factor)
        for name in new:
            if name.endswith("k_proj.bias"):
                new[name][0] += 1.0
        return new

    monkeypatch.setattr(hf, "written_parameters", in_one_channel)
    checks = verify.run(hf.run(source, YARN, scales, tmp_path / "other"))
    wrong = [check.question for check in checks if check.passed is False]
    assert wrong == ["weights against the source's", "logits against the source model"]


def test_an_applied_offset_leaves_the_next_export_without_a_bias(source, tmp_path):
    scales = shifting(source, YARN, random_scales())
    apply_scales(source, scales)
    try:
        folder = hf.run(source, YARN, None, tmp_path / "none")
        assert "attention_bias" not in json.loads((folder / "qroar.json").read_text())
        assert [n for n in AutoModelForCausalLM.from_pretrained(folder).state_dict() if n.endswith("bias")] == []
        both = hf.run(source, YARN, scales, tmp_path / "both")
        assert [check for check in verify.run(both) if check.passed is not True] == []
    finally:
        undo_scales(source)


def test_llama_cpp_gives_the_source_models_log_probabilities(demo, tmp_path):
    pytest.importorskip("xllamacpp")
    geo, rope = demo.geometry, RopeSpec("yarn", 2.0, tie=(Tie(26, 31, 0.0),))
    scales = shifting(demo, rope, identity(geo.n_layers, geo.n_kv_heads, ((0, geo.n_pairs - 1),)))
    folder = gguf_write.run(demo, rope, scales, tmp_path / "out", format="gguf-f16")
    (path,) = folder.glob("*.gguf")
    tensors = {t.name: t for t in gguf.GGUFReader(path).tensors}
    head = torch.tensor(tensors["blk.1.attn_k.bias"].data).view(geo.n_kv_heads, geo.head_dim)[1]
    factor = 0.1 * math.log(2.0) + 1  # YaRN's, multiplied into W_K
    own = demo.model.model.layers[1].self_attn.k_proj.bias.detach().view(geo.n_kv_heads, geo.head_dim)[1]
    off = factor * (own - scales.k_offset[1, 1]).float()
    torch.testing.assert_close(head[2 * 27], off[27])  # llama.cpp has both channels of a pair side by side
    torch.testing.assert_close(head[2 * 27 + 1], off[27 + 32])
    torch.testing.assert_close(head[2 * 3], factor * own[3])  # a pair that turns keeps its bias
    checks = verify.run(folder)
    assert [check for check in checks if check.passed is not True] == []
    assert any("llama.cpp" in check.question for check in checks)


@pytest.mark.smollm2
@pytest.mark.slow
def test_llama_cpp_reads_a_bias_of_k_alone(smollm2, tmp_path):
    """SmolLM2 has no bias at all."""
    pytest.importorskip("xllamacpp")
    geo, rope = smollm2.geometry, RopeSpec("yarn", 2.0, tie=(Tie(26, 31, 0.0),))
    scales = shifting(smollm2, rope, identity(geo.n_layers, geo.n_kv_heads, ((0, geo.n_pairs - 1),)))
    folder = gguf_write.run(smollm2, rope, scales, tmp_path / "out", format="gguf-bf16")
    (path,) = folder.glob("*.gguf")
    names = [t.name for t in gguf.GGUFReader(path).tensors if t.name.endswith(".bias")]
    assert names == [f"blk.{layer}.attn_k.bias" for layer in range(geo.n_layers)]
    assert [check for check in verify.run(folder) if check.passed is not True] == []
    again = load_model(str(path), device="cpu", dtype="float32")
    off = again.model.model.layers[0].self_attn.k_proj.bias.view(geo.n_kv_heads, -1)
    factor = 0.1 * math.log(2.0) + 1
    torch.testing.assert_close(off, -factor * scales.k_offset[0].float(), rtol=1e-5, atol=1e-5)


def test_weights_that_are_rounded_anew_take_it_and_finished_codes_do_not(tiny, tmp_path):
    written = hf.run(tiny(hidden_size=64), RopeSpec(), None, tmp_path / "source")
    source = load_model(str(written), device="cpu", dtype="float32")
    scales = shifting(source, YARN, random_scales())
    folder = w4a16.run(source, YARN, scales, tmp_path / "w4", group_size=32)
    logits = next(check for check in verify.run(folder) if check.question == "logits against the source model")
    assert logits.passed, logits.answer
    again = load_model(str(folder), device="cpu", dtype="float32")
    plain = shifting(again, YARN, identity(2, 2, random_scales().bands))
    with pytest.raises(BadScales, match=r"its offset does; finished codes stay.*without --k-offset"):
        quantized_copy.run(again, YARN, plain, tmp_path / "copy")


def test_a_family_without_a_key_bias_is_refused_for_a_folder_only(byte_tokenizer, tokenizer_folder, tmp_path):
    loaded = loaded_of(CASES["mistral, window"], byte_tokenizer, tokenizer_folder)
    geo = loaded.geometry
    rope = RopeSpec("linear", 2.0, tie=(Tie(geo.n_pairs - 2, geo.n_pairs - 1, 0.0),))
    scales = shifting(loaded, rope, identity(geo.n_layers, geo.n_kv_heads, ((0, geo.n_pairs - 1),)))
    reads = r"a bias of W_K, and transformers' code of mistral reads none; .*or choose a GGUF format"
    with pytest.raises(BadSpec, match=reads):
        hf.run(loaded, rope, scales, tmp_path / "out")
    assert not (tmp_path / "out").exists()
