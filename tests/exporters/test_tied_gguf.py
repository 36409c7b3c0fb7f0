"""GGUF files of tied pairs: a divisor per pair, the attention factor in attn_q and attn_k, and who reads it back."""

from __future__ import annotations

import math

import gguf
import numpy as np
import pytest
import torch

from qroar_core.errors import BadSpec
from qroar_core.exporters import gguf_copy, gguf_write, verify
from qroar_core.interpolations.frequencies import rope_of
from qroar_core.interpolations.tie import Tie
from qroar_core.models.formats.gguf.header import read_header
from qroar_core.models.formats.gguf.model import understood
from qroar_core.models.load import run as load_model
from qroar_core.models.stream import Condition
from qroar_core.models.text import encode, split
from qroar_core.models.window_losses import measure
from qroar_core.specs import QuantSpec, RopeSpec
from qroar_core.transforms.file import to_file
from qroar_core.transforms.scales import Scales

TIES = (Tie(10, 13), Tie(14, 19, 0.8), Tie(26, 31, 0.0))
YARN = RopeSpec("yarn", 4.0, tie=TIES)
A = 0.1 * math.log(4) + 1
F16 = 0.02  # nats: float16 weights and activations
HALF = ((0, 15), (16, 31))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("QROAR_CACHE", str(tmp_path / "cache"))


def random_scales(loaded, mode="symmetric"):
    geo, generator = loaded.geometry, torch.Generator().manual_seed(3)
    g = (torch.rand(geo.n_layers, geo.n_kv_heads, 2, generator=generator, dtype=torch.float64) - 0.5).exp2()
    return Scales(mode, "kv_head", HALF, g)


def file_in(folder):
    (path,) = folder.glob("*.gguf")
    return path


def tensors_of(path):
    return {t.name: t for t in gguf.GGUFReader(path).tensors}


def log_probabilities(loaded, tokens, first, rope=RopeSpec(), scales=None):  # noqa: B008
    nll = measure(loaded, Condition(rope, scales=scales), torch.tensor([tokens]), len(tokens) - first).nll
    return -nll[0].double()


def test_the_file_divides_each_pair_and_has_no_scaling(demo, tmp_path):
    path = file_in(gguf_write.run(demo, YARN, None, tmp_path / "out", format="gguf-f16"))
    reader, found = gguf.GGUFReader(path), tensors_of(path)
    assert [name for name in reader.fields if "rope.scaling" in name or "scale_linear" in name] == []
    assert reader.get_field("llama.context_length").contents() == 1024
    divisors = np.array(found["rope_freqs.weight"].data)
    assert divisors.dtype == np.float32
    omega = 10_000.0 ** (-np.arange(32) / 32) / divisors.astype(np.float64)
    np.testing.assert_allclose(omega[:26], rope_of(demo, YARN, 1024).inv_freq[:26].double().numpy(), rtol=3e-7)
    assert (omega[26:] * 1e7 < 1e-6).all()
    own = demo.model.model.layers[1].self_attn.k_proj.weight.detach()
    order = [h * 64 + i + s * 32 for h in range(2) for i in range(32) for s in (0, 1)]
    np.testing.assert_array_equal(
        np.array(found["blk.1.attn_k.weight"].data),
        (own * torch.tensor(A, dtype=torch.float32)).half().numpy()[order],
    )


@pytest.mark.parametrize("rope", [YARN, RopeSpec(tie=TIES), RopeSpec("llama3", 4.0, tie=TIES)], ids=lambda r: r.method)
def test_our_own_loader_reads_it_back(demo, tmp_path, rope):
    folder = gguf_write.run(demo, rope, random_scales(demo), tmp_path / "out", format="gguf-f16")
    again = load_model(str(file_in(folder)), device="cpu", dtype="float32")
    tokens = encode(demo.tokenizer, split("heldout")[0])[:300].tolist()
    found = log_probabilities(again, tokens, 250)
    assert float((found - log_probabilities(demo, tokens, 250, rope)).abs().max()) < F16


def test_an_architecture_without_divisors_is_refused(tiny, demo):
    loaded = tiny("qwen2", hidden_size=64, vocab_size=len(demo.tokenizer))
    loaded.tokenizer = demo.tokenizer
    with pytest.raises(BadSpec, match=r"reads no frequency per pair .* for qwen2.*without --tie"):
        gguf_write._rope(loaded, gguf_write._layout(loaded), RopeSpec(tie=(Tie(2, 3),)))


@pytest.mark.parametrize("kind", ["gguf-f16", "gguf-q8_0"])
def test_a_copy_takes_ties_scales_and_factor(demo, tmp_path, kind):
    """Of a file of plain RoPE and of one with YaRN of its own, kept and tied."""
    tokens = encode(demo.tokenizer, split("heldout")[0])[:300].tolist()
    for name, own, asked in (("plain", RopeSpec(), YARN), ("own", RopeSpec("yarn", 4.0), RopeSpec(tie=TIES))):
        source = file_in(gguf_write.run(demo, own, None, tmp_path / f"{name} source", format=kind))
        model = understood(source, read_header(source))
        described = gguf_copy._Described("m", min(model.fingerprints()), model.geometry)
        scales = random_scales(demo)
        (tmp_path / f"{name}.json").write_text(to_file(described, RopeSpec(), QuantSpec(), scales).to_json())
        folder = gguf_copy.run(source, tmp_path / f"{name}.json", asked, tmp_path / name)
        loaded = load_model(str(source), device="cpu", dtype="float32")
        again = load_model(str(file_in(folder)), device="cpu", dtype="float32")
        found, wanted = log_probabilities(again, tokens, 250), log_probabilities(loaded, tokens, 250, asked, scales)
        assert float((found - wanted).abs().max()) < F16
        assert float((found - log_probabilities(loaded, tokens, 250)).abs().max()) > 5 * F16
        assert [check for check in verify.run(folder) if check.passed is False] == []
        card = (folder / "README.md").read_text()
        assert "tied 10–13, 14–19 ×0.8, still 26–31, written into `rope_freqs.weight`, a divisor per pair; its" in card


def test_a_copy_without_scales_changes_q_and_k_alone_by_the_factor(demo, tmp_path):
    source = file_in(gguf_write.run(demo, RopeSpec(), None, tmp_path / "source", format="gguf-f16"))
    before, after = tensors_of(source), tensors_of(file_in(gguf_copy.run(source, None, YARN, tmp_path / "out")))
    changed = {n for n in before if not np.array_equal(np.array(before[n].data), np.array(after[n].data))}
    assert changed == {f"blk.{i}.attn_{x}.{leaf}" for i in range(4) for x in "qk" for leaf in ("weight", "bias")}
    assert set(after) - set(before) == {"rope_freqs.weight"}
    linear = tensors_of(file_in(gguf_copy.run(source, None, RopeSpec("linear", 2.0, tie=TIES), tmp_path / "linear")))
    assert all(np.array_equal(np.array(before[n].data), np.array(linear[n].data)) for n in before)


def test_llama_cpp_gives_the_tied_models_log_probabilities(demo, tmp_path):
    """Also past the native window of 256; the untied model's are others."""
    pytest.importorskip("xllamacpp")
    from qroar_core.models.llama_cpp import LlamaCpp

    text = encode(demo.tokenizer, split("heldout")[0])[:400].tolist()
    for rope, count in ((YARN, 400), (RopeSpec(tie=TIES), 250)):
        tokens, first = text[:count], count - 30
        folder = gguf_write.run(demo, rope, None, tmp_path / rope.method, format="gguf-f16")
        found = torch.tensor(LlamaCpp(file_in(folder), count + 20).log_probabilities(tokens, first)).double()
        assert float((found - log_probabilities(demo, tokens, first, rope)).abs().max()) < F16
        untied = log_probabilities(demo, tokens, first, RopeSpec("yarn", 4.0) if rope is YARN else RopeSpec())
        assert float((found - untied).abs().max()) > 5 * F16


def test_verify_asks_llama_cpp(demo, tmp_path):
    pytest.importorskip("xllamacpp")
    folder = gguf_write.run(demo, YARN, random_scales(demo), tmp_path / "out", format="gguf-q8_0")
    checks = verify.run(folder)
    assert [check.passed for check in checks if "llama.cpp" in check.question] == [True]
    assert [check for check in checks if check.passed is False] == []
