"""Every architecture read from a GGUF file is the model that the file was written from: weights, config and NLL.

The files and their models come from `gguf_zoo`, which shares no code with the reader and is itself held to llama.cpp.
"""

from __future__ import annotations

import struct

import gguf
import numpy as np
import pytest
import torch

from qroar_core.errors import UnsupportedModel
from qroar_core.models.formats.gguf.opened import open_gguf
from qroar_core.models.llama_cpp import LlamaCpp, available
from qroar_core.models.load import run as load_model
from tests.models.gguf_zoo import KINDS, write
from tests.models.gguf_zoo.building import state

pytestmark = pytest.mark.slow

TOKENS = torch.randint(0, 2048, (2, 40), generator=torch.Generator().manual_seed(5))  # past every sliding window
REFUSED = {"stablelm, parallel, norms of heads": "a LayerNorm for every head of q and k is not supported"}
AMBIGUOUS = {"gpt-oss, whole bounds": "no key tells it from gpt-oss itself, whose bounds are not rounded"}
READ = [name for name in KINDS if name not in REFUSED and name not in AMBIGUOUS]
ROPES = [
    ("llama", "linear"),
    ("llama", "linear, old"),
    ("llama", "linear, untyped"),
    ("llama", "yarn"),
    ("llama", "llama3"),
    ("qwen2", "yarn"),
    ("qwen3", "yarn"),
    ("gemma3", "linear"),
    ("mistral", "llama3"),
    ("mixtral", "linear"),
    ("phi3", "longrope"),
    ("phi3, partial", "longrope"),
    ("glm4", "yarn"),
    ("granite", "llama3"),
    ("gptneox", "linear"),
    ("qwen3moe", "yarn"),
    ("smollm3", "linear"),
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("QROAR_CACHE", str(tmp_path / "cache"))


def nll(model, tokens=TOKENS):
    """Mean over all tokens but the first, nats, float64."""
    with torch.inference_mode():
        logits = model(tokens, use_cache=False).logits.double()
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).item()


def assert_same(path, original):
    """Weights to the last bit but for the rounding of a gain stored as 1 + w; NLL to 1e-4."""
    loaded = load_model(str(path), device="cpu", dtype="float32")
    own, theirs = state(loaded.model), state(original)
    assert own.keys() == theirs.keys()
    for name, tensor in theirs.items():
        torch.testing.assert_close(own[name], tensor, rtol=0, atol=1.2e-7, msg=lambda m, name=name: f"{name}: {m}")
    assert nll(loaded.model) == pytest.approx(nll(original), abs=1e-4)
    return loaded


@pytest.mark.parametrize("name", READ)
def test_a_file_is_the_model_it_was_written_from(tmp_path, name):
    original = write(name, tmp_path / "x.gguf")
    loaded = assert_same(tmp_path / "x.gguf", original)
    assert loaded.note == "dequantized from GGUF (F16)"


def test_stablelms_key_says_nothing_where_the_mlp_has_a_norm(tmp_path):
    """The converter writes true where a config is silent (StableLM 3B); llama.cpp goes by the norm, and so it is."""
    original = write("stablelm", tmp_path / "x.gguf")
    content = (tmp_path / "x.gguf").read_bytes()
    key = b"stablelm.use_parallel_residual" + struct.pack("<I", gguf.GGUFValueType.BOOL)
    assert content.count(key + b"\0") == 1
    (tmp_path / "y.gguf").write_bytes(content.replace(key + b"\0", key + b"\1"))
    assert_same(tmp_path / "y.gguf", original)
    if available():
        ids = TOKENS[0, :12].tolist()
        said = [LlamaCpp(tmp_path / name, 32).log_probabilities(ids, 1) for name in ("x.gguf", "y.gguf")]
        assert said[0] == said[1]


@pytest.mark.parametrize("name", REFUSED)
def test_a_layout_without_a_family_is_refused(tmp_path, name):
    write(name, tmp_path / "x.gguf")
    with pytest.raises(UnsupportedModel, match=REFUSED[name]):
        load_model(str(tmp_path / "x.gguf"))


@pytest.mark.parametrize("name", ["llama", "qwen2moe", "gpt-oss", "falcon", "deepseek2", "lfm2"])
def test_quantized_blocks_are_dequantized_row_by_row(tmp_path, name, monkeypatch):
    """Chunks far smaller than a tensor give the same values."""
    monkeypatch.setattr("qroar_core.models.formats.gguf.reading.CHUNK", 700)
    original = write(name, tmp_path / "x.gguf", kind="Q8_0")
    assert assert_same(tmp_path / "x.gguf", original).note == "dequantized from GGUF (Q8_0)"


@pytest.mark.parametrize(("name", "rope"), ROPES)
def test_the_scaling_of_rope_is_the_one_written(tmp_path, name, rope):
    original = write(name, tmp_path / "x.gguf", rope=rope)
    loaded = assert_same(tmp_path / "x.gguf", original)
    frequencies = {name: x for name, x in original.named_buffers() if name.endswith("inv_freq")}
    own = dict(loaded.model.named_buffers())
    assert frequencies
    for name, expected in frequencies.items():
        torch.testing.assert_close(own[name], expected, rtol=1e-6, atol=0)
    ours, theirs = (
        {attribute: value for attribute, value in vars(rotary).items() if attribute.endswith("attention_scaling")}
        for rotary in (loaded.family.rotary(loaded.model), loaded.family.rotary(original))
    )
    assert theirs
    assert ours == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize("asked", [1, 2, 3])
def test_shards_are_joined_whichever_is_named(tmp_path, asked):
    original = write("llama", tmp_path / "x.gguf", shard_tensors=12)
    shards = sorted(tmp_path.glob("x-*.gguf"))
    assert len(shards) == 3
    assert_same(shards[asked - 1], original)


def test_divisors_that_are_no_llama3_are_kept_pair_by_pair(tmp_path, monkeypatch):
    """transformers then turns by exactly inv_freq / divisor, at every length, with no factor on cos and sin."""
    divisors = np.linspace(1, 8, 16).astype(np.float32)
    monkeypatch.setattr(
        "tests.models.gguf_zoo.rope_tensors", lambda config: {"rope_freqs.weight": torch.from_numpy(divisors)}
    )
    write("llama", tmp_path / "x.gguf")
    block = open_gguf(tmp_path / "x.gguf").config["rope_parameters"]
    assert (block["rope_type"], block["attention_factor"]) == ("longrope", 1.0)
    rotary = load_model(str(tmp_path / "x.gguf"), device="cpu").model.model.rotary_emb
    turned = 7_000.0 ** (-np.arange(0, 32, 2) / 32) / divisors
    np.testing.assert_allclose(rotary.inv_freq.numpy(), turned, rtol=1e-6)
    for length in (100, 700):  # inside the context, and past it, where LongRoPE takes its other list
        cos, _sin = rotary(torch.zeros(1), torch.arange(length)[None])
        np.testing.assert_allclose(cos[0, :, :16].numpy(), np.cos(np.arange(length)[:, None] * turned), atol=1e-4)


@pytest.mark.parametrize(
    ("base", "head_dim", "factor", "window"),
    [(500_000.0, 128, 8.0, 8192), (500_000.0, 64, 32.0, 8192), (10_000.0, 64, 4.0, 256), (500_000.0, 128, 16.0, 8192)],
)
def test_divisors_of_llama_3_become_its_parameters(base, head_dim, factor, window):
    """As convert_hf_to_gguf writes them for Llama 3.1 and 3.2, in float32, from the wavelengths."""
    from qroar_core.models.formats.gguf.read_rope import llama3_parameters

    wavelength = (2 * torch.pi * base ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)).numpy()
    smooth = (window / wavelength - 1) / 3
    between = 1 / ((1 - smooth) / factor + smooth)
    divisors = np.where(wavelength < window / 4, 1, np.where(wavelength > window, factor, between)).astype(np.float32)
    assert llama3_parameters(divisors.astype(np.float64), base, 131_072, 131_072) == {
        "rope_type": "llama3",
        "factor": factor,
        "original_max_position_embeddings": window,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
    }
    assert llama3_parameters(divisors * 1.00001 + (divisors == 1) * 1e-5, base, 131_072, 131_072) is None
