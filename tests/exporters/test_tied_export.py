"""Exports of tied pairs: stock transformers, our own loader and llama.cpp compute what was measured in memory.

Oracle of the folder: plain transformers in float64, the frequencies and the factor of its module set by hand.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from qroar_core.errors import BadSpec
from qroar_core.exporters import gguf_write, hf, quantized_copy, verify, w4a16
from qroar_core.exporters.written_rope import divisors, folding, written_parameters, written_rope
from qroar_core.interpolations.frequencies import rope_of
from qroar_core.interpolations.tie import Tie
from qroar_core.models.load import run as load_model
from qroar_core.models.patch import apply_scales, undo_scales
from qroar_core.models.stream import Condition
from qroar_core.specs import QuantSpec, RopeSpec, WeightQuantSpec
from tests.exporters.test_export import logits_under, random_scales
from tests.models.families_table import CASES, loaded_of

TIES = (Tie(2, 3), Tie(4, 5, 0.5), Tie(6, 7, 0.0))
YARN = RopeSpec("yarn", 4.0, tie=TIES)
A = 0.1 * math.log(4) + 1
ROPES = (
    *(RopeSpec(method, 4.0, tie=TIES) for method in ("linear", "ntk", "yarn", "llama3")),
    RopeSpec("longrope", 4.0, long_factor=(1.5,) * 8, short_factor=(1.5,) * 8, tie=TIES),
    RopeSpec(tie=TIES),
)
by_method = pytest.mark.parametrize("rope", ROPES, ids=lambda rope: rope.method)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("QROAR_CACHE", str(tmp_path / "cache"))


def by_hand(loaded, rope, ids):
    """Logits of the source in float64, its frequencies tied by a loop of plain floats."""
    alone = rope_of(loaded, replace(rope, tie=()), ids.shape[1])
    omega = alone.inv_freq.double().tolist()
    for tie in rope.tie:
        here = range(tie.first, tie.last + 1)
        mean = math.exp(sum(math.log(omega[i]) for i in here) / len(here))
        for i in here:
            omega[i] = tie.turn * mean
    rotary = loaded.model.model.rotary_emb
    before = rotary.inv_freq, rotary.attention_scaling
    rotary.inv_freq, rotary.attention_scaling = torch.tensor(omega, dtype=torch.float64), alone.attention_factor
    try:
        with torch.no_grad():
            return loaded.model(ids).logits[0, :-1]
    finally:
        rotary.inv_freq, rotary.attention_scaling = before


@by_method
def test_stock_transformers_gives_the_tied_models_logits(tiny, ids, tmp_path, rope):
    """Past the native window of 64, with a cache beside it."""
    loaded, tokens = tiny(), ids(1, 96)
    expected = by_hand(tiny(dtype=torch.float64), rope, tokens)
    folder = hf.run(loaded, rope, None, tmp_path / "out")
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        got = plain(tokens).logits[0, :-1]
        start = plain(tokens[:, :40], use_cache=True)
        later = plain(tokens[:, 40:], past_key_values=start.past_key_values).logits[0, :-1]
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(later, got[40:], rtol=0, atol=1e-4)
    again = load_model(str(folder), device="cpu", dtype="float32")
    torch.testing.assert_close(logits_under(again, Condition(), tokens), got, rtol=0, atol=2e-5)
    torch.testing.assert_close(logits_under(loaded, Condition(rope), tokens), got, rtol=0, atol=2e-5)
    untied = logits_under(loaded, Condition(replace(rope, tie=())), tokens)
    assert float((untied - got).abs().max()) > 1e-2


def test_the_config_says_what_both_readers_take_for_a_factor_of_one(tiny, tmp_path):
    """transformers: its own initialiser. vLLM: the formula of its Phi3LongRoPEScaledRotaryEmbedding, written out."""
    loaded = tiny()
    folder = hf.run(loaded, YARN, None, tmp_path / "out")
    said = json.loads((folder / "config.json").read_text())
    block = said["rope_parameters"]
    assert block["rope_type"] == "longrope"
    assert block["long_factor"] == block["short_factor"]
    assert block["original_max_position_embeddings"] == said["max_position_embeddings"] == 256
    assert AutoModelForCausalLM.from_pretrained(folder).model.rotary_emb.attention_scaling == 1.0
    scale = said["max_position_embeddings"] / block["original_max_position_embeddings"]
    assert (1.0 if scale <= 1 else math.sqrt(1 + math.log(scale) / math.log(256))) == 1.0
    factors = torch.tensor(block["long_factor"], dtype=torch.float32)
    vllm = 1.0 / (factors * block["rope_theta"] ** (torch.arange(0, 16, 2, dtype=torch.float) / 16))
    wanted = rope_of(loaded, YARN, 256).inv_freq
    torch.testing.assert_close(vllm[:6], wanted[:6], rtol=1.2e-7, atol=0)  # one step of float32
    assert bool((vllm[6:].double() * 1e7 < 1e-6).all())  # rad after ten million tokens
    assert bool(factors.isfinite().all())


def test_untouched_pairs_keep_their_frequencies_to_the_last_bit(tiny, tmp_path):
    folder = hf.run(tiny(), RopeSpec(tie=(Tie(4, 7),)), None, tmp_path / "out")
    found = AutoModelForCausalLM.from_pretrained(folder).model.rotary_emb.inv_freq
    assert torch.equal(found[:4], tiny().model.model.rotary_emb.inv_freq[:4])


@pytest.mark.parametrize("mode", ["symmetric", "shared"])
def test_scales_and_factor_go_in_together_and_are_rounded_once(tiny, ids, tmp_path, mode):
    loaded, tokens, scales = tiny(), ids(1, 48), random_scales(mode)
    folder = hf.run(loaded, YARN, scales, tmp_path / "out")
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        got = plain(tokens).logits[0, :-1]
    torch.testing.assert_close(logits_under(loaded, Condition(YARN, scales=scales), tokens), got, rtol=0, atol=2e-5)
    low = tiny(dtype=torch.bfloat16)
    q = low.model.model.layers[0].self_attn.q_proj.weight
    written = written_parameters(low, random_scales("shared"), A)["model.layers.0.self_attn.q_proj.weight"]
    g = random_scales("shared").g[0].repeat_interleave(2, 0)[:, [0, 0, 0, 0, 1, 1, 1, 1]].repeat(1, 2).reshape(-1, 1)
    assert torch.equal(written, (q.float() * g.float() * torch.tensor(A, dtype=torch.float32)).bfloat16())
    assert written.dtype == torch.bfloat16


def test_weights_come_back_bit_for_bit_also_under_applied_scales(tiny, tmp_path):
    loaded = tiny()
    before = {name: p.detach().clone() for name, p in loaded.model.named_parameters()}
    first = hf.run(loaded, YARN, None, tmp_path / "first")
    apply_scales(loaded, random_scales("shared"))
    second = hf.run(loaded, YARN, None, tmp_path / "second")
    undo_scales(loaded)
    assert all(torch.equal(p, before[name]) for name, p in loaded.model.named_parameters())
    one, two = (AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (first, second))
    assert all(torch.equal(one[name], two[name]) for name in one)


@by_method
def test_verify_passes(tiny, tmp_path, rope):
    source = hf.run(tiny(), RopeSpec(), None, tmp_path / "source")
    loaded = load_model(str(source), device="cpu", dtype="float32")
    folder = hf.run(loaded, rope, random_scales(), tmp_path / "out")
    checks = verify.run(folder)
    assert [check for check in checks if check.passed is not True] == []
    assert any("logits" in check.question for check in checks)


def test_verify_sees_a_factor_that_was_left_out(tiny, tmp_path, monkeypatch):
    source = hf.run(tiny(), RopeSpec(), None, tmp_path / "source")
    loaded = load_model(str(source), device="cpu", dtype="float32")
    monkeypatch.setattr(hf, "written_parameters", lambda loaded, scales, _: written_parameters(loaded, scales, 1.0))
    checks = verify.run(hf.run(loaded, YARN, None, tmp_path / "out"))
    wrong = [check.question for check in checks if check.passed is False]
    assert wrong == ["weights against the source's", "logits against the source model"]


QUICK = ("qwen3", "gemma3", "smollm3", "gpt_neox", "phi3")
LEFT_OUT = ("deepseek_v3, yarn, in halves", "mixtral, window")  # refused, below; its sizes stop transformers' experts


@pytest.mark.parametrize(
    "family",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES if name not in LEFT_OUT],
)
def test_families(byte_tokenizer, tokenizer_folder, ids, tmp_path, family):
    """QK-norm, layers of other frequencies or without RoPE, channels that are not rotated, fused rows, MLA."""
    loaded = loaded_of(CASES[family], byte_tokenizer, tokenizer_folder, dtype=torch.float32)
    last = loaded.geometry.n_pairs - 1
    ties = (Tie(0, last - 1), Tie(last, last, 0.0)) if last > 1 else (Tie(0, 1, 0.8),)
    rope = RopeSpec("yarn", 2.0, tie=ties)
    tokens = ids(1, 48)
    folder = hf.run(loaded, rope, None, tmp_path / "out")
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        got = plain(tokens).logits[0, :-1]
    torch.testing.assert_close(logits_under(loaded, Condition(rope), tokens), got, rtol=0, atol=1e-4)
    untied = logits_under(loaded, Condition(replace(rope, tie=())), tokens)
    assert float((untied - got).abs().max()) > 1e-3


def test_the_factor_leaves_layers_alone_that_no_interpolation_changes(byte_tokenizer, tokenizer_folder):
    loaded = loaded_of(CASES["gemma3"], byte_tokenizer, tokenizer_folder, dtype=torch.float32)
    geo = loaded.geometry
    scales = folding(geo, 1.5)
    assert [float(g[0, 0]) for g in scales.g] == [
        1.5 if geo.kind_of(layer) == "full_attention" else 1.0 for layer in range(geo.n_layers)
    ]
    assert folding(geo, 1.0) is None


def test_frequencies_that_depend_on_the_length_are_refused(tiny):
    loaded = tiny()
    for rope in (RopeSpec("dynamic", 2.0, tie=TIES), RopeSpec("longrope", 2.0, long_factor=(2.0,) * 8, tie=TIES)):
        with pytest.raises(BadSpec, match=r"depend on the length.*without --tie") as refused:
            written_rope(loaded, rope)
        assert "\n" not in str(refused.value)
        with pytest.raises(BadSpec, match="depend on the length"):
            gguf_write._rope(loaded, gguf_write._layout(loaded), rope)


def test_a_softmax_scale_that_hangs_on_the_own_interpolation_is_no_reason_to_write_another_model(
    byte_tokenizer, tokenizer_folder
):
    loaded = loaded_of(CASES["deepseek_v3, yarn, in halves"], byte_tokenizer, tokenizer_folder, dtype=torch.float32)
    assert rope_of(loaded, RopeSpec(tie=(Tie(0, 1),)), 64).untied is not None  # it can be measured
    with pytest.raises(BadSpec, match=r"softmax scale comes from its own interpolation.*without --tie"):
        written_rope(loaded, RopeSpec(tie=(Tie(0, 1),)))


def test_a_config_that_takes_no_longrope_is_refused(tiny, monkeypatch):
    loaded = tiny()

    def only_yarn(cls, content, **options):
        if content["rope_parameters"]["rope_type"] == "longrope":
            raise ValueError("rope_type must be yarn")
        return AutoConfig.for_model("llama")

    monkeypatch.setattr(type(loaded.model.config), "from_dict", classmethod(only_yarn))
    with pytest.raises(BadSpec, match=r"takes no longrope RoPE, which tied pairs are written as.*without --tie"):
        written_rope(loaded, YARN)


def test_the_card_and_the_note_say_it(tiny, tmp_path):
    folder = hf.run(tiny(), YARN, None, tmp_path / "out")
    card = (folder / "README.md").read_text()
    assert (
        "- RoPE: yarn x4, tied 2–3, 4–5 ×0.5, still 6–7, written into `rope_parameters` of config.json as LongRoPE "
        "with a factor per pair, both lists equal; its attention factor 1.13863 is multiplied into W_Q and W_K."
    ) in card
    assert "- Scales: none." in card
    note = json.loads((folder / "qroar.json").read_text())
    assert note["factor"] == pytest.approx(A)
    assert note["changed"] == ["q_proj", "k_proj"]
    assert note["rope"]["tie"][2] == {"first": 6, "last": 7, "turn": 0.0}
    other = json.loads((hf.run(tiny(), RopeSpec("yarn", 4.0), None, tmp_path / "other") / "qroar.json").read_text())
    assert "tie" not in other["rope"]
    assert "factor" not in other
    assert other["changed"] == []


def test_w4a16_holds_scales_and_factor(tiny, ids, tmp_path):
    pytest.importorskip("compressed_tensors")
    loaded, tokens = tiny(hidden_size=64), ids(1, 48)
    folder = w4a16.run(loaded, YARN, random_scales(), tmp_path / "out", group_size=32)
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        got = plain(tokens).logits[0, :-1]
    quant = QuantSpec(weights=WeightQuantSpec(4, "group", 32, full_range=True))
    expected = logits_under(loaded, Condition(YARN, quant, random_scales()), tokens)
    apart = (got - expected).abs().mean()
    assert float(apart) < 0.02 * float(expected.std())  # steps and the factor are rounded to bfloat16
    bare = logits_under(loaded, Condition(replace(YARN, tie=()), quant, random_scales()), tokens)
    assert float((got - bare).abs().mean()) > 5 * float(apart)


def test_a_quantized_copy_takes_the_factor_into_its_steps(tiny, ids, tmp_path):
    pytest.importorskip("compressed_tensors")
    source = w4a16.run(tiny(hidden_size=64), RopeSpec(), None, tmp_path / "source", group_size=32)
    loaded, tokens = load_model(str(source), device="cpu", dtype="float32"), ids(1, 48)
    folder = quantized_copy.run(loaded, YARN, None, tmp_path / "out")
    again = load_model(str(folder), device="cpu", dtype="float32")
    got, expected = logits_under(again, Condition(), tokens), logits_under(loaded, Condition(YARN), tokens)
    assert float((got - expected).abs().mean()) < 0.01 * float(expected.std())
    untied = logits_under(loaded, Condition(replace(YARN, tie=())), tokens)
    assert float((got - untied).abs().mean()) > 5 * float((got - expected).abs().mean())
    assert [check for check in verify.run(folder) if check.passed is False] == []


def test_divisors_of_a_still_pair_are_finite(tiny):
    found = divisors(rope_of(tiny(), YARN, 64), 10_000.0)
    assert found.dtype == torch.float32
    assert bool(found.isfinite().all())
    native = 10_000.0 ** (-np.arange(8) / 8)
    assert native[6:] / found[6:].double().numpy() == pytest.approx([1e-14] * 2, rel=1e-6)
