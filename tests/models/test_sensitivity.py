"""The second-order map against brute force: each cell rounded alone in the stream, its KL read from the logits."""

from dataclasses import replace

import pytest
import torch

from qroar_core.interpolations.bands import band_of_channel, partition
from qroar_core.interpolations.frequencies import native_inv_freq
from qroar_core.models.calibrate import calibrated
from qroar_core.models.condition import Condition
from qroar_core.models.score import logits_of
from qroar_core.models.sensitivity import TOGETHER, second_order_kl
from qroar_core.models.stream import open_stream
from qroar_core.specs import BandSpec, QuantizerSpec, QuantSpec, RopeSpec
from tests.models.families_table import CASES, loaded_of, model_of

YARN = RopeSpec("yarn", 2.0)


def parts_of(loaded, count):
    geo = loaded.geometry
    bands = partition(native_inv_freq(loaded), geo.original_context, BandSpec(count))
    return band_of_channel(bands, geo.head_dim, geo.rotary_dim, geo.pairing).repeat(geo.n_layers, 1)


def log_p(loaded, condition, tokens):
    with open_stream(loaded, condition, tokens.shape[1], batch=len(tokens)) as stream:
        hidden = torch.cat([piece.hidden for piece in stream.run(tokens)], 1)
    return logits_of(loaded, hidden.flatten(0, 1)).log_softmax(-1)


def brute(loaded, condition, tokens, parts, count):
    exact = log_p(loaded, Condition(condition.rope), tokens)
    kl = torch.zeros(loaded.geometry.n_layers, count, dtype=torch.float64)
    for layer in range(len(kl)):
        for part in range(count):
            only = torch.zeros_like(parts, dtype=torch.bool)
            only[layer] = parts[layer] == part
            other = log_p(loaded, replace(condition, quantized_channels=only), tokens)
            kl[layer, part] = (exact.exp() * (exact - other)).sum(-1).mean()
    return kl


QUANTS = {
    "K int6": QuantSpec(k=QuantizerSpec(6)),
    "K int6 before RoPE": QuantSpec(k=QuantizerSpec(6, before_rope=True)),
    "q and k int6": QuantSpec(qk=QuantizerSpec(6)),
    "q and k int6 per tensor": QuantSpec(qk=QuantizerSpec(6, scale="tensor")),
    "K int6 in blocks": QuantSpec(k=QuantizerSpec(6, residual=40)),
    "K int6 in blocks, then q and k int7": QuantSpec(k=QuantizerSpec(6, residual=40), qk=QuantizerSpec(7)),
    "K int6, then q and k int7": QuantSpec(k=QuantizerSpec(6), qk=QuantizerSpec(7)),
}


@pytest.mark.parametrize("name", QUANTS)
def test_every_cell_is_what_a_forward_pass_of_its_own_finds(tiny, ids, name):
    loaded, tokens = tiny("qwen2", dtype=torch.float64), ids(6, 121)  # no multiple of the block of tokens
    assert tokens.shape[1] % TOGETHER
    parts = parts_of(loaded, 4)
    condition = calibrated(loaded, Condition(YARN, QUANTS[name]), tokens)
    guess = second_order_kl(loaded, condition, tokens, parts)
    found = brute(loaded, condition, tokens, parts, 4)
    ratio = guess / found
    assert float(found.max() / found.min()) > 2  # cells differ by more than the tolerance below
    assert float(ratio.min()) > 0.6
    assert float(ratio.max()) < 1.6
    assert float(guess.sum() / found.sum()) == pytest.approx(1, abs=0.2)


def test_what_all_keys_share_costs_nothing(tiny, ids):
    """A constant channel of K whose rounding error is the same at every token moves no softmax."""
    loaded, tokens = tiny("qwen2", dtype=torch.float64), ids(4, 96)
    attention = loaded.model.model.layers[0].self_attn
    still = [7, 15, 23, 31]  # one pair of both heads
    attention.k_proj.weight.data[still] = 0
    attention.k_proj.bias.data[still] = 0.37
    static = QuantSpec(k=QuantizerSpec(3, scale="tensor", static_scale=0.5))
    rope = RopeSpec("linear", 1e6)  # hardly any rotation: K's channel stays the constant
    alone = torch.full((2, 16), 1)
    alone[0, [7, 15]] = 0
    guess = second_order_kl(loaded, Condition(rope, static), tokens, alone)
    found = brute(loaded, Condition(rope, static), tokens, alone, 2)
    assert float(found[0, 0]) < 1e-9
    assert float(guess[0, 0]) < 1e-9
    assert float(guess[0, 1]) > 1e-4


def test_the_model_is_as_before_and_draws_follow_the_seed(tiny, ids):
    loaded, tokens = tiny(), ids(2, 64)
    parts = parts_of(loaded, 4)
    before = {name: p.clone() for name, p in loaded.model.named_parameters()}
    condition = Condition(YARN, QuantSpec(k=QuantizerSpec(4)))
    one, two, other = (second_order_kl(loaded, condition, tokens, parts, seed=s) for s in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert all(torch.equal(p, before[name]) and p.grad is None for name, p in loaded.model.named_parameters())


@pytest.mark.parametrize("name", ["stablelm", "gpt_oss", "gemma2", "cohere2"])
def test_other_softmaxes_and_layouts(name, byte_tokenizer, tokenizer_folder, ids):
    """Sinks, soft caps, windows, partial rotation: the same comparison, channel group by channel group."""
    case = next(key for key in CASES if key.split(",")[0] == name)
    experts = CASES[case].options.get("num_local_experts")  # all of them at work: a switch between them has no slope
    model = model_of(CASES[case], **({"num_experts_per_tok": experts} if experts else {}))
    loaded = loaded_of(CASES[case], byte_tokenizer, tokenizer_folder, model)
    tokens, geo = ids(4, 64), loaded.geometry
    parts = (torch.arange(geo.head_dim) % 2).repeat(geo.n_layers, 1)
    condition = Condition(quant=QuantSpec(k=QuantizerSpec(7)))
    guess, found = second_order_kl(loaded, condition, tokens, parts), brute(loaded, condition, tokens, parts, 2)
    assert float(guess.sum() / found.sum()) == pytest.approx(1, abs=0.35)
