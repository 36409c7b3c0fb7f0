"""Continuations against transformers' own generate, and against loops that keep no cache."""

import math

import pytest
import torch

from qroar_core.errors import BadText, Cancelled
from qroar_core.evaluation import continuations
from qroar_core.models.condition import Condition
from qroar_core.models.decode import added_text
from qroar_core.models.score import logits_of
from qroar_core.models.stream import open_stream
from qroar_core.models.text import Document, windows
from qroar_core.quantizers.fake_quantize import fake_quantize
from qroar_core.setting import Setting
from qroar_core.specs import ContinuationSpec, QuantizerSpec, QuantSpec, RopeSpec
from qroar_core.transforms.scales import Scales, identity
from tests.evaluation.generated import HELDOUT, KIVI, generated, transformers_demo

YARN = RopeSpec("yarn", 4.0)
INT3 = QuantSpec(k=QuantizerSpec(3), v=QuantizerSpec(4))
TEXT = [Document("a", "".join(chr(97 + (i * i + 3 * i) % 26) for i in range(900)))]


@pytest.mark.parametrize(
    ("rope", "block", "length"),
    [
        (RopeSpec(), {"rope_type": "default"}, 200),
        (YARN, {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}, 600),
    ],
    ids=["plain", "yarn"],
)
def test_the_reference_is_transformers_own_generate_token_for_token(demo, rope, block, length):
    spec = ContinuationSpec(length=length, tokens=40, chunk=128)
    result = continuations.run(demo, Setting(rope, QuantSpec()), None, None, spec, HELDOUT)
    ids = windows(demo.tokenizer, HELDOUT, length, 1).ids[0]
    (row,) = result.rows
    assert row.tokens == generated(transformers_demo(block), ids[: length - 40], 40)
    assert row.text == demo.tokenizer.decode(row.tokens)
    assert len(set(row.tokens)) > 5
    assert result.prompt_tokens == length - 40
    assert result.actual == demo.tokenizer.decode(ids[length - 40 :])
    assert row.departs_at is None


def brute(loaded, spec, ids, tokens):
    """No cache and none of our attention: every step the whole prefix through a softmax written out here."""
    from transformers import AttentionInterface

    def attention(module, query, key, value, mask, scaling=None, **kwargs):
        k, v = fake_quantize(key, spec.k), fake_quantize(value, spec.v)
        k, v = (x.repeat_interleave(query.shape[1] // x.shape[1], 1) for x in (k, v))
        future = torch.ones(query.shape[-2], k.shape[-2]).triu(1).bool()
        logits = (query @ k.mT * scaling).masked_fill(future, -math.inf)
        return (logits.softmax(-1) @ v).transpose(1, 2), None

    AttentionInterface.register("written out", attention)
    config = loaded.model.config
    before = config._attn_implementation_internal
    config._attn_implementation_internal = "written out"
    taken, log_prob = [], []
    try:
        for _ in range(tokens):
            with torch.inference_mode():
                log_p = (
                    loaded.model(torch.cat([ids, torch.tensor(taken, dtype=torch.int64)])[None], use_cache=False)
                    .logits[0, -1]
                    .log_softmax(-1)
                )
            taken.append(int(log_p.argmax()))
            log_prob.append(float(log_p.max()))
    finally:
        config._attn_implementation_internal = before
    return taken, log_prob


def test_a_quantized_continuation_equals_a_loop_without_cache(tiny):
    loaded = tiny()
    spec = ContinuationSpec(length=140, tokens=30, chunk=32)
    result = continuations.run(loaded, Setting(RopeSpec(), INT3), None, None, spec, TEXT)
    ids = windows(loaded.tokenizer, TEXT, 140, 1).ids[0, :110]
    tokens, log_prob = brute(loaded, INT3, ids, 30)
    reference, quantized = result.rows
    assert quantized.tokens == tokens
    assert quantized.log_prob == pytest.approx(log_prob, abs=1e-4)
    assert reference.tokens != quantized.tokens
    first = next(i for i in range(30) if reference.tokens[i] != quantized.tokens[i])
    assert quantized.departs_at == first


@pytest.mark.parametrize(
    "quant", [INT3, KIVI, QuantSpec(k=QuantizerSpec(4), qk=QuantizerSpec(5))], ids=["token", "kivi", "active"]
)
def test_every_step_equals_a_new_stream_over_the_whole_prefix(tiny, quant):
    """For caches whose newest tokens stay raw the loop over the prefix says when a block is rounded."""
    loaded = tiny("qwen2")
    spec = ContinuationSpec(length=90, tokens=20, chunk=24)
    quantized = continuations.run(loaded, Setting(RopeSpec("linear", 2.0), quant), None, None, spec, TEXT).rows[1]
    ids = windows(loaded.tokenizer, TEXT, 90, 1).ids[0, :70]
    for token, log_prob in zip(quantized.tokens, quantized.log_prob, strict=True):
        with open_stream(loaded, Condition(RopeSpec("linear", 2.0), quant), 90) as stream:
            hidden = torch.cat([p.hidden for p in stream.run(ids)], 1)[0, -1:]
            log_p = logits_of(loaded, hidden).log_softmax(-1)[0]
        assert token == int(log_p.argmax())
        assert log_prob == pytest.approx(float(log_p.max()), abs=1e-4)
        ids = torch.cat([ids, torch.tensor([token])])


def test_scales_that_repair_bring_the_reference_back(planted):
    case = planted(factor=64.0)
    g = torch.ones(2, 2, len(case.bands), dtype=torch.float64)
    g[case.layer, case.kv_head, case.band] = case.factor
    tuned, none = Scales("symmetric", "kv_head", case.bands, g), identity(2, 2, case.bands)
    spec = ContinuationSpec(length=100, tokens=12)
    quant = QuantSpec(k=QuantizerSpec(8))
    rows = continuations.run(case.loaded, Setting(RopeSpec(), quant), tuned, none, spec, TEXT).rows
    assert [(r.model, r.scales) for r in rows] == [
        ("reference", "identity"),
        ("quantized", "identity"),
        ("quantized", "tuned"),
        ("quantized", "smooth_attention"),
    ]
    assert rows[2].tokens == rows[0].tokens
    assert rows[2].departs_at is None
    assert rows[3].tokens == rows[1].tokens  # identity scales change nothing
    assert abs(rows[2].log_prob[0] - rows[0].log_prob[0]) < abs(rows[1].log_prob[0] - rows[0].log_prob[0])


def test_it_stops_where_the_model_ends_the_text(tiny):
    loaded = tiny()
    spec = ContinuationSpec(length=60, tokens=20)
    free = continuations.run(loaded, Setting(RopeSpec(), QuantSpec()), None, None, spec, TEXT).rows[0].tokens
    loaded.model.generation_config.eos_token_id = [free[4]]
    stopped = continuations.run(loaded, Setting(RopeSpec(), QuantSpec()), None, None, spec, TEXT).rows[0].tokens
    assert stopped == free[: free.index(free[4]) + 1]


def test_an_own_prompt_keeps_its_end_and_says_what_did_not_fit(tiny):
    loaded = tiny()
    spec = ContinuationSpec(length=30, tokens=10, prompt="".join(chr(97 + i % 26) for i in range(50)))
    result = continuations.run(loaded, Setting(RopeSpec(), QuantSpec()), None, None, spec, [])
    assert (result.prompt_tokens, result.left_out) == (20, 30)
    assert result.prompt_end == spec.prompt[-20:]
    assert result.actual == ""
    with pytest.raises(BadText, match="leave no room for a prompt in 64; ask for fewer"):
        continuations.run(
            loaded, Setting(RopeSpec(), QuantSpec()), None, None, ContinuationSpec(tokens=64, prompt="a"), []
        )


def test_a_character_cut_across_tokens_comes_whole(byte_tokenizer):
    before, ids = byte_tokenizer("x é")["input_ids"], byte_tokenizer("aé€b")["input_ids"]
    assert added_text(byte_tokenizer, before, ids) == ["a", "", "é", "", "", "€", "b"]


def test_cancel_stops_at_the_next_token_and_leaves_the_model_as_it_was(tiny):
    loaded = tiny()
    before = {name: p.detach().clone() for name, p in loaded.model.named_parameters()}
    seen = []

    def stop(step):
        seen.append(step.fraction)
        if len(seen) == 5:
            raise Cancelled("continuations")

    spec = ContinuationSpec(length=60, tokens=20)
    with pytest.raises(Cancelled):
        continuations.run(loaded, Setting(RopeSpec("linear", 2.0), INT3), None, None, spec, TEXT, on_step=stop)
    assert len(seen) == 5
    assert seen == sorted(seen)
    assert all(torch.equal(p, before[name]) for name, p in loaded.model.named_parameters())
    assert loaded.model.config._attn_implementation_internal == "sdpa"
