"""Exports run by llama.cpp itself (wheel xllamacpp): the same tokens, the same log-probabilities as transformers."""

from __future__ import annotations

import pytest
import torch

from qroar_core.exporters import gguf_copy, gguf_write
from qroar_core.models.score import logits_of
from qroar_core.models.stream import Condition
from qroar_core.models.text import encode, split
from qroar_core.models.window_losses import measure
from qroar_core.specs import QuantSpec, RopeSpec
from qroar_core.transforms.file import to_file
from qroar_core.transforms.scales import Scales

pytest.importorskip("xllamacpp")
from qroar_core.models.llama_cpp import LlamaCpp, LlamaCppStates, rotation_disabled

F16 = 0.02  # nats: float16 weights and activations
RANDOM = 0.1  # the same where weights are random and logits spread over 20 nats
Q8 = 0.15


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch, request):
    if "smollm2" not in request.keywords:
        monkeypatch.setenv("QROAR_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def small(tiny, demo):
    """A tiny model of a family with the demo's tokenizer."""

    def build(family, **options):
        head_dim = 16 if family == "qwen2" else 32  # llama.cpp takes qwen2 with head_dim x heads = hidden size only
        loaded = tiny(family, hidden_size=64, head_dim=head_dim, vocab_size=len(demo.tokenizer), **options)
        loaded.tokenizer = demo.tokenizer
        return loaded

    return build


def served(folder, context=300, **options):
    return LlamaCpp(next(folder.glob("*.gguf")), context, **options)


def random_scales(loaded, mode, spread=2.0):
    geo = loaded.geometry
    generator = torch.Generator().manual_seed(3)
    g = (torch.rand(geo.n_layers, geo.n_kv_heads, 2, generator=generator, dtype=torch.float64) - 0.5) * 2 * spread
    half = geo.n_pairs // 2
    return Scales(mode, "kv_head", ((0, half - 1), (half, geo.n_pairs - 1)), g.exp2())


def log_probabilities(loaded, ids, first, rope=RopeSpec(), scales=None):  # noqa: B008
    nll = measure(loaded, Condition(rope, scales=scales), torch.tensor([ids]), len(ids) - first).nll
    return -nll[0].double()


@pytest.mark.parametrize("mode", ["symmetric", "shared"])
@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2"])
def test_a_scaled_export_gives_the_models_own_log_probabilities(small, ids, tmp_path, family, mode):
    loaded = small(family)
    scales = random_scales(loaded, mode)
    folder = gguf_write.run(loaded, RopeSpec(), scales, tmp_path / "out", format="gguf-f16")
    tokens = (ids(60) + 300).tolist()  # ids past the specials and bytes of the demo's vocabulary
    found = torch.tensor(served(folder).log_probabilities(tokens, 20)).double()
    assert float((found - log_probabilities(loaded, tokens, 20, scales=scales)).abs().max()) < RANDOM
    bare = float((found - log_probabilities(loaded, tokens, 20)).abs().max())
    assert bare > 10 * RANDOM if mode == "shared" else bare < RANDOM


@pytest.mark.parametrize(
    "rope",
    [RopeSpec("yarn", 4.0), RopeSpec("linear", 2.0), RopeSpec("ntk", 2.0), RopeSpec("llama3", 4.0)],
    ids=lambda r: r.method,
)
def test_llama_cpp_interpolates_as_transformers_does(demo, tmp_path, rope):
    """Past the native window of 256, where it matters."""
    folder = gguf_write.run(demo, rope, None, tmp_path / "out", format="gguf-f16")
    tokens = encode(demo.tokenizer, split("heldout")[0])[:400].tolist()
    found = torch.tensor(served(folder, 420).log_probabilities(tokens, 370)).double()
    assert float((found - log_probabilities(demo, tokens, 370, rope)).abs().max()) < F16
    native = log_probabilities(demo, tokens, 370)
    assert float((found - native).abs().max()) > 5 * F16  # it is not the checkpoint's own RoPE


@pytest.mark.parametrize(("format", "bound"), [("gguf-f16", F16), ("gguf-bf16", 0.05), ("gguf-q8_0", Q8)])
def test_the_demo_continues_as_in_transformers(demo, tmp_path, format, bound):
    from transformers import GenerationConfig

    folder = gguf_write.run(demo, RopeSpec(), None, tmp_path / "out", format=format)
    server = served(folder)
    tokens = encode(demo.tokenizer, split("heldout")[1])[:80].tolist()
    with torch.inference_mode():
        logits = demo.model(torch.tensor([tokens])).logits[0, -1].log_softmax(-1)
        plan = GenerationConfig(max_new_tokens=16, do_sample=False, eos_token_id=None, pad_token_id=0)
        wanted = demo.model.generate(torch.tensor([tokens]), generation_config=plan)[0, 80:].tolist()
    top = server.top(tokens, 10)
    assert next(iter(top)) == int(logits.argmax())
    assert max(abs(value - float(logits[token])) for token, value in top.items()) < bound
    if format != "gguf-q8_0":
        assert server.continuation(tokens, 16) == wanted


def test_the_states_of_a_window_give_the_same_log_probabilities(demo, tmp_path):
    """One pass over the window against one completion a token, through the cache as it is stored, rotated or not."""
    folder = gguf_write.run(demo, RopeSpec("yarn", 4.0), None, tmp_path / "out", format="gguf-f16")
    file = next(folder.glob("*.gguf"))
    tokens = encode(demo.tokenizer, split("heldout")[0])[:320].tolist()
    found = {}
    for cache, rotated in (("f16", True), ("q4_0", True), ("q4_0", False)):
        with rotation_disabled(not rotated):
            asked = torch.tensor(LlamaCpp(file, 330, cache).log_probabilities(tokens, 290))
            states = LlamaCppStates(file, 330, cache).states(tokens)
        read = logits_of(demo, states[289:-1]).log_softmax(-1)
        found[cache, rotated] = read.gather(1, torch.tensor(tokens[290:])[:, None])[:, 0]
        assert states.shape == (320, demo.geometry.hidden_size)
        apart = (found[cache, rotated] - asked).abs()
        assert float(apart.max()) < (F16 if cache == "f16" else 0.1)  # another order of sums turns a few q4_0 codes
        assert float(apart.mean()) < 0.01
    for other in (("f16", True), ("q4_0", True)):
        assert float((found["q4_0", False] - found[other]).abs().mean()) > 0.1


def test_a_scaled_copy_of_a_q4_0_file_keeps_the_logits_in_llama_cpp(demo, tmp_path):
    """Symmetric scales in a file whose codes were final: same log-probabilities. One-sided ones: not."""
    from qroar_core.models.formats.gguf.header import read_header
    from qroar_core.models.formats.gguf.model import understood

    first = next(gguf_write.run(demo, RopeSpec(), None, tmp_path / "first", format="gguf-q4_0").glob("*.gguf"))
    model = understood(first, read_header(first))
    tokens = encode(demo.tokenizer, split("heldout")[2])[:120].tolist()
    before = torch.tensor(LlamaCpp(first, 200).log_probabilities(tokens, 60))
    moved = {}
    for mode in ("symmetric", "shared"):
        described = gguf_copy._Described("m", min(model.fingerprints()), model.geometry)
        content = to_file(described, RopeSpec(), QuantSpec(), random_scales(demo, mode, 1.0))
        (tmp_path / f"{mode}.json").write_text(content.to_json())
        folder = gguf_copy.run(first, tmp_path / f"{mode}.json", None, tmp_path / mode)
        after = torch.tensor(served(folder, 200).log_probabilities(tokens, 60))
        moved[mode] = float((after - before).abs().max())
    # block scales rounded to fp16 anew, activations rounded to q8 by llama.cpp: the demo's large K bias makes both felt
    assert moved["symmetric"] < 0.2
    assert moved["shared"] > 1.0


def test_every_token_has_a_probability_even_inside_a_character(demo, tmp_path):
    """Bytes of a character cut in two: the server leaves such tokens out unless asked for all."""
    folder = gguf_write.run(demo, RopeSpec(), None, tmp_path / "out", format="gguf-f16")
    tokens = demo.tokenizer("Caf\u00e9 \u20ac \U0001f600 na\u00efve \u00fc")["input_ids"]
    assert len(tokens) > 12
    found = torch.tensor(served(folder).log_probabilities(tokens, 1)).double()
    assert float((found - log_probabilities(demo, tokens, 1)).abs().max()) < F16


@pytest.mark.slow
@pytest.mark.smollm2
def test_smollm2_in_float16(smollm2, tmp_path):
    from transformers import GenerationConfig

    folder = gguf_write.run(smollm2, RopeSpec(), None, tmp_path / "out", format="gguf-f16")
    server = served(folder, 256)
    tokens = encode(smollm2.tokenizer, split("heldout", "technical")[0])[:200].tolist()
    found = torch.tensor(server.log_probabilities(tokens, 150)).double()
    assert float((found - log_probabilities(smollm2, tokens, 150)).abs().max()) < 0.05
    with torch.inference_mode():
        plan = GenerationConfig(max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0)
        wanted = smollm2.model.generate(torch.tensor([tokens]), generation_config=plan)[0, 200:].tolist()
    assert server.continuation(tokens, 12) == wanted
