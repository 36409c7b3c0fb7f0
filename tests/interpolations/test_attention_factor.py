"""An attention factor that a setting fixes: transformers' own, without a slope, and in W_Q and W_K of an export."""

from __future__ import annotations

import json
from dataclasses import replace

import gguf
import pytest
import torch
from transformers import AutoModelForCausalLM

from qroar_core.errors import BadSpec
from qroar_core.exporters import gguf_write, hf
from qroar_core.interpolations.frequencies import interpolation_of, rope_of
from qroar_core.interpolations.pressure import attention_factor_slope
from qroar_core.models.load import run as load_model
from qroar_core.models.stream import Condition
from qroar_core.models.text import encode, split
from qroar_core.models.window_losses import measure
from qroar_core.specs import RopeSpec
from qroar_core.specs.labels import rope_words
from qroar_core.specs.written import written
from tests.exporters.test_export import logits_under

LIST = tuple(1 + 0.4 * i for i in range(8))
DEMO_LIST = tuple(1 + 0.1 * i for i in range(32))
YARN = RopeSpec("yarn", 4.0, attention_factor=1.3)
LONGROPE = RopeSpec("longrope", 4.0, long_factor=LIST, short_factor=LIST, attention_factor=0.9)
both = pytest.mark.parametrize("rope", [YARN, LONGROPE], ids=lambda rope: rope.method)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("QROAR_CACHE", str(tmp_path / "cache"))


@both
def test_it_does_not_move_with_the_factor(tiny, rope):
    loaded = tiny(layers=1)
    free = replace(rope, attention_factor=None)
    assert attention_factor_slope(interpolation_of(loaded, rope, 128)) == 0.0
    assert attention_factor_slope(interpolation_of(loaded, free, 128)) > 0.01
    assert torch.equal(rope_of(loaded, rope, 128).inv_freq, rope_of(loaded, free, 128).inv_freq)


@pytest.mark.parametrize("method", ["default", "linear", "ntk", "dynamic", "llama3"])
def test_a_method_that_has_none_refuses_one(tiny, method):
    factor = 1.0 if method == "default" else 4.0
    with pytest.raises(BadSpec, match=rf"{method} has no attention factor to set.*choose yarn or longrope"):
        rope_of(tiny(layers=1), RopeSpec(method, factor, attention_factor=1.2), 128)


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan"), float("inf"), "1"])
def test_it_is_a_number_above_zero(wrong):
    with pytest.raises(BadSpec, match="attention_factor must be"):
        RopeSpec("yarn", 2.0, attention_factor=wrong)


def test_older_files_lack_it_and_words_name_it():
    assert "attention_factor" not in written(RopeSpec("yarn", 4.0))
    assert written(YARN)["attention_factor"] == 1.3
    assert rope_words(replace(YARN, beta_fast=24.0)) == "YaRN ×4 (beta_fast 24, attention factor 1.3)"


@both
def test_stock_transformers_gives_the_logits_though_its_config_does_not_say_it(tiny, ids, tmp_path, rope):
    """vLLM and mlx-lm read no attention_factor, so that it is in the weights; past the native window of 64."""
    loaded, tokens = tiny(), ids(1, 96)
    folder = hf.run(loaded, rope, None, tmp_path / "out")
    assert "attention_factor" not in json.loads((folder / "config.json").read_text())["rope_parameters"]
    config = loaded.model.config
    exact = tiny(
        rope_parameters=json.loads((folder / "config.json").read_text())["rope_parameters"]
        | {"attention_factor": rope.attention_factor},
        max_position_embeddings=config.max_position_embeddings,
    )
    with torch.inference_mode():
        expected = exact.model(tokens).logits[0, :-1]
        got = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(tokens).logits[0, :-1]
    torch.testing.assert_close(got, expected, rtol=0, atol=5e-5)
    torch.testing.assert_close(logits_under(loaded, Condition(rope), tokens), expected, rtol=0, atol=5e-5)
    without = logits_under(loaded, Condition(replace(rope, attention_factor=None)), tokens)
    assert float((without - got).abs().max()) > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize(
    "rope",
    [
        YARN,
        replace(YARN, beta_fast=24.0, beta_slow=0.5),
        replace(LONGROPE, long_factor=DEMO_LIST, short_factor=DEMO_LIST),
    ],
    ids=["yarn", "yarn, borders", "longrope"],
)
def test_a_gguf_file_read_back_gives_them_too(demo, tmp_path, rope):
    """Past the native window of 256; LongRoPE's one list, and borders that llama.cpp does not read, are divisors."""
    (path,) = gguf_write.run(demo, rope, None, tmp_path / "out", format="gguf-f16").glob("*.gguf")
    reader = gguf.GGUFReader(path)
    assert not [name for name in reader.fields if "attn_factor" in name or "beta" in name]
    assert ("rope_freqs.weight" in [one.name for one in reader.tensors]) == (rope != YARN)
    again = load_model(str(path), device="cpu", dtype="float32")
    tokens = encode(demo.tokenizer, split("heldout")[0])[:300][None]
    expected, got = (
        measure(one, Condition(under), tokens, 100).nll for one, under in ((demo, rope), (again, RopeSpec()))
    )
    torch.testing.assert_close(got, expected, rtol=0, atol=0.02)  # float16 weights and activations
    without = measure(demo, Condition(replace(rope, attention_factor=None)), tokens, 100).nll
    assert float((without - expected).abs().max()) > 0.1
