"""What a query reads rounded and what exactly, against a cache that this file runs token by token in float64."""

from dataclasses import replace

import pytest
import torch
from transformers.cache_utils import QuantizedLayer

from qroar_core.diagnostics import run as diagnose
from qroar_core.diagnostics.assemble import LOCAL, PROPAGATED
from qroar_core.diagnostics.pair_error.observe import PairErrorRecorder
from qroar_core.diagnostics.sample import Sample, about_errors
from qroar_core.diagnostics.similarity import figure as similarity
from qroar_core.evaluation import run as evaluate
from qroar_core.models.stream import Condition, open_stream
from qroar_core.models.text import Document
from qroar_core.models.window_losses import measure
from qroar_core.quantizers.exact_keys import first_exact_key, still_exact, what_a_query_reads
from qroar_core.quantizers.presets import preset_quant
from qroar_core.result import Result
from qroar_core.retrieval import run as retrieve
from qroar_core.setting import Setting
from qroar_core.specs import (
    BandSpec,
    DiagnosisSpec,
    EvaluationSpec,
    QuantizerSpec,
    QuantSpec,
    RetrievalSpec,
    RopeSpec,
    WeightQuantSpec,
)
from tests.diagnostics.token_by_token import nearest, noise_and_kl, per_token, reads, taken

TWO_TEXTS = [
    Document(name, "".join(chr(97 + (i * i + step * i) % 26) for i in range(900)))
    for name, step in (("a", 3), ("b", 5))
]
TEXT = [Document("a", "".join(chr(97 + (i * i + 3 * i) % 26) for i in range(900)))]
YARN = RopeSpec("yarn", 8.0)
HEAD = 64  # channels; quanto's group
pytestmark = pytest.mark.slow

SPEC = DiagnosisSpec(
    length=300,
    short_length=32,
    paired_tokens=16,
    windows=2,
    eps=0.02,
    bands=BandSpec(4),
    chunk=300,
    position_bins=5,
    query_rows=24,
)


# rounding by hand: (heads, tokens, channels) float64, a whole block of tokens


def between(x, axis, steps):
    low, high = x.amin(axis, keepdim=True), x.amax(axis, keepdim=True)
    return nearest(x, low[..., None] + (high - low)[..., None] * torch.arange(steps + 1, dtype=x.dtype) / steps)


def per_channel(group):
    return lambda x: torch.cat([between(part, 1, 3) for part in x.split(group, 1)], 1)


def ggml(x):
    """q4_0: pairs side by side, blocks of 32 channels, d from the entry of largest magnitude, kept in fp16."""
    order = [i // 2 + HEAD // 2 * (i % 2) for i in range(HEAD)]
    blocks = x[..., order].unflatten(-1, (-1, 32))
    d = blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True)) / -8
    codes = nearest(blocks / d, torch.arange(-8, 8, dtype=torch.float64))
    out = torch.empty_like(x)
    out[..., order] = (codes * d.half().double()).flatten(-2)
    return out


PRESETS = {  # its quantizers, tokens of a block, and the rounding of one
    "int4": (QuantSpec(k=QuantizerSpec(4)), 1, per_token(4)),
    "kivi2": (preset_quant("kivi2"), 128, per_channel(32)),
    "quanto4": (preset_quant("quanto4"), 128, lambda x: between(x, 2, 15)),
    "q4_0-norot": (preset_quant("q4_0-norot"), 1, ggml),
    "fp8": (preset_quant("fp8"), 1, lambda x: x.clamp(-448, 448).to(torch.float8_e4m3fn).double()),
    "per channel, no residual": (QuantSpec(k=QuantizerSpec(2, "channel", "affine", 32, "input")), 32, per_channel(32)),
}


def agrees(found, layer, expected):
    """Noise and KL of one layer at every sampled row against {row: (RMS, KL)}."""
    for at, row in enumerate(found.position):
        rms, kl = expected[row]
        assert found.by_layer[layer][at] == pytest.approx(rms, rel=1e-4, abs=1e-9), row
        assert found.kl_by_layer[layer][at] == pytest.approx(kl, rel=1e-3, abs=1e-7), row


def kept_keys(monkeypatch):
    """What amplitude, phase and anisotropy are fed with: {layer: [KeysRead]}."""
    kept, inner = {}, PairErrorRecorder.on_keys

    def on_keys(self, keys):
        kept.setdefault(keys.layer, []).append(replace(keys, k=keys.k.clone(), k_hat=keys.k_hat.clone()))
        inner(self, keys)

    monkeypatch.setattr(PairErrorRecorder, "on_keys", on_keys)
    return kept


def whole(stretches):
    """Keys in order, (first, K, K read): every one once."""
    at = stretches[0].start
    for s in stretches:
        assert s.start == at
        at += s.k.shape[1]
    return stretches[0].start, torch.cat([s.k for s in stretches], 1), torch.cat([s.k_hat for s in stretches], 1)


CHUNKED = [*((name, 300) for name in PRESETS), ("int4", 70), ("kivi2", 100), ("per channel, no residual", 7)]


@pytest.mark.parametrize(("name", "chunk"), CHUNKED)
def test_every_error_of_keys_is_that_of_the_cache_run_token_by_token(tiny, monkeypatch, name, chunk):
    """Logit noise at every sampled row; amplitude, phase and anisotropy on what the last query reads rounded."""
    quant, block, rounded = PRESETS[name]
    loaded, kept, spec = tiny(dtype=torch.float64, head_dim=HEAD), kept_keys(monkeypatch), replace(SPEC, chunk=chunk)
    found = diagnose.run(loaded, Setting(YARN, quant, diagnosis=spec), TEXT).logit_noise
    plan = diagnose.plan(loaded, Setting(YARN, quant, diagnosis=spec), TEXT)
    count = {1: 300, 128: 256, 32: 288}[block]
    for layer, (q, k, scaling) in enumerate(taken(loaded, Condition(YARN), plan.ids)):
        seen = reads(k, block, rounded, found.position)
        agrees(found, layer, {t: noise_and_kl(q[:, t], k[:, : t + 1], q[:, t], x, scaling) for t, x in seen.items()})
        first, reference, read = whole(kept[layer])
        assert (first, reference.shape[1]) == (0, count)
        torch.testing.assert_close(reference, k[:, :count], rtol=0, atol=1e-9)
        torch.testing.assert_close(read, seen[299][:, :count], rtol=0, atol=1e-9)
    assert (found.position[0], found.position[-1]) == (1, 299)
    inside = [row < block for row in found.position]
    assert [rms == 0 for rms in found.rms] == [block > 1 and here for here in inside]


@pytest.mark.parametrize("name", ["kivi2", "quanto4", "int4"])
def test_the_error_of_the_settings_quantizer_is_of_the_keys_read_rounded_and_that_of_int4_of_all(tiny, name):
    """Parts of K's squared error by channel, from the cache that takes one token at a time, after the last one."""
    quant, block, rounded = PRESETS[name]
    loaded = tiny(dtype=torch.float64, head_dim=HEAD)
    found = diagnose.run(loaded, Setting(YARN, quant, diagnosis=SPEC), TEXT).outliers
    assert found.still_exact == (44 if block > 1 else 0)
    plan = diagnose.plan(loaded, Setting(YARN, quant, diagnosis=SPEC), TEXT)
    for layer, (_, k, _) in enumerate(taken(loaded, Condition(YARN), plan.ids)):
        read = reads(k, block, rounded, [299])[299]
        assert torch.equal(read[:, 256:], k[:, 256:]) is (block > 1)
        for of, kept in (("in force", read), ("int4", per_token(4)(k))):
            square = (kept - k).square().sum((0, 1))
            shares = (square / square.sum()).tolist()
            assert found.error_by_channel[of][layer] == pytest.approx(shares, rel=2e-3)
        printed = torch.tensor(found.entry_limit[layer]).double()[:, None, None]
        far = k.abs() >= 2 ** ((printed.log2() * 32).round() / 32)  # limits are edges of bins, 32 in a doubling
        for band in range(4):
            here = torch.tensor([c % 32 // 8 == band for c in range(HEAD)])
            square = (read - k).square()[..., here]
            share = float((square * far[..., here]).sum() / square.sum())
            assert found.error_share["in force"][layer][band] == pytest.approx(share, rel=2e-3, abs=1e-6)
            assert found.entry_share[layer][band] == pytest.approx(float(far[..., here].double().mean()), rel=1e-3)
            null = float(far[:, : 256 if block > 1 else 300, here].double().mean())  # of the keys read rounded alone
            assert found.entry_share_in_force[layer][band] == pytest.approx(null, rel=1e-3)
        assert found.entry_limit_in_force[layer] == found.entry_limit[layer]
    if block > 1:
        assert found.entry_share_in_force != found.entry_share


def test_a_context_inside_the_tail_has_no_noise_and_no_errors_of_keys(tiny):
    loaded, spec = tiny(head_dim=HEAD), replace(SPEC, length=128)
    found = diagnose.run(loaded, Setting(YARN, preset_quant("kivi2"), diagnosis=spec), TEXT)
    assert not any(found.logit_noise.rms)
    assert not any(found.logit_noise.attention_kl)
    assert (found.pair_error, found.anisotropy) == (None, None)
    assert similarity.by_position(found).title.endswith("? Not at all: no sampled row has an error")
    longer = diagnose.run(loaded, Setting(YARN, preset_quant("kivi2"), diagnosis=replace(spec, length=129)), TEXT)
    assert longer.logit_noise.rms[-1] > 0.01
    assert longer.pair_error is not None
    assert "Not at all" not in similarity.by_position(longer).title


# weights and activations change q and K before any cache does

BLOCKS = QuantizerSpec(3, residual=24)
THROUGH = {  # the quantizers, tokens of K's block, its rounding, and that of q and of K for the product
    "weights": (QuantSpec(weights=WeightQuantSpec(4)), 1, None, None),
    "activations": (QuantSpec(activations=QuantizerSpec(6)), 1, None, None),
    "weights and K": (QuantSpec(weights=WeightQuantSpec(4), k=QuantizerSpec(4)), 1, per_token(4), None),
    "weights, blocks of K and others of V": (
        QuantSpec(weights=WeightQuantSpec(4), k=BLOCKS, v=QuantizerSpec(4, residual=40)),
        24,
        per_token(3),
        None,
    ),
    "weights, blocks, q and k": (
        QuantSpec(weights=WeightQuantSpec(4), k=BLOCKS, qk=QuantizerSpec(5)),
        24,
        per_token(3),
        per_token(5),
    ),
}


def same(x):
    return x


@pytest.mark.parametrize(
    ("name", "chunk"),
    [*((name, 48) for name in THROUGH), (list(THROUGH)[3], 128), (list(THROUGH)[4], 11)],
)
def test_errors_through_the_model_compare_both_passes_as_the_cache_holds_them(tiny, monkeypatch, name, chunk):
    quant, block, rounded, active = THROUGH[name]
    rounded, active = rounded or same, active or same
    loaded, kept = tiny(dtype=torch.float64), kept_keys(monkeypatch)
    spec = replace(SPEC, length=128, chunk=chunk)
    found = diagnose.run(loaded, Setting(YARN, quant, diagnosis=spec), TEXT)
    assert found.logit_noise.kind == "that include those of earlier layers"
    ids = diagnose.plan(loaded, Setting(YARN, quant, diagnosis=spec), TEXT).ids
    passes = zip(*(taken(loaded, Condition(YARN, q), ids, 128) for q in (QuantSpec(), quant)), strict=True)
    for layer, ((q, k, scaling), (q_own, k_own, _)) in enumerate(passes):
        seen, q_hat = reads(k_own, block, rounded, found.logit_noise.position), active(q_own)
        seen = {t: active(x) for t, x in seen.items()}
        rows = {t: noise_and_kl(q[:, t], k[:, : t + 1], q_hat[:, t], x, scaling) for t, x in seen.items()}
        agrees(found.logit_noise, layer, rows)
        first, reference, read = whole(kept[layer])
        assert first == 0
        torch.testing.assert_close(reference, k, rtol=0, atol=1e-9)
        torch.testing.assert_close(read, seen[127], rtol=0, atol=1e-9)


def test_weights_add_to_the_errors_of_the_cache(tiny):
    loaded, spec = tiny(), replace(SPEC, length=64)
    k, weights, both = (
        diagnose.run(loaded, Setting(YARN, quant, diagnosis=spec), TEXT).pair_error.phase
        for quant in (
            QuantSpec(k=QuantizerSpec(3)),
            QuantSpec(weights=WeightQuantSpec(4)),
            QuantSpec(weights=WeightQuantSpec(4), k=QuantizerSpec(3)),
        )
    )
    k, weights, both = (torch.tensor(x).square().mean().sqrt() for x in (k, weights, both))
    assert both > 1.1 * k
    assert both > 1.1 * weights


ODD = QuantizerSpec(4, residual=20)  # blocks that V's of 32 tokens, and so the chunks, do not hold whole


@pytest.mark.parametrize("name", ["int4", "kivi2", "clips", "odd", "qk", "weights alone"])
def test_with_quantized_weights_ends_are_those_of_the_keys_that_the_cache_receives(tiny, name):
    """Shares clipped and zeroed, by hand on the keys of the model with quantized weights."""
    clips = QuantizerSpec(3, scale="tensor", static_scale=0.5)  # levels -1.5 .. 1.5
    quant, block, rounded = {
        **PRESETS,
        "clips": (QuantSpec(k=clips), 1, lambda x: nearest(x, torch.arange(-3, 4).double() / 2)),
        "odd": (QuantSpec(k=ODD, v=replace(ODD, residual=32)), 20, per_token(4)),
        "qk": (QuantSpec(qk=QuantizerSpec(4)), 1, per_token(4)),
        "weights alone": (QuantSpec(), 1, None),
    }[name]
    quant = replace(quant, weights=WeightQuantSpec(4))
    loaded, spec = tiny(dtype=torch.float64, head_dim=HEAD), replace(SPEC, chunk=64)
    found = diagnose.run(loaded, Setting(YARN, quant, diagnosis=spec), TEXT).rounding.k
    plan = diagnose.plan(loaded, Setting(YARN, quant, diagnosis=spec), TEXT)
    exact = taken(loaded, Condition(YARN), plan.ids)
    for layer, (_, k, _) in enumerate(taken(loaded, Condition(YARN, quant), plan.ids)):
        if rounded is None:
            assert found.clipped[layer] == found.zeroed[layer] == [None, None]
            continue
        k = k[:, : 300 if block == 1 else 299 // block * block]
        kept = torch.cat([rounded(part) for part in k.split(block, 1)], 1)
        groups = kept.split(32, 1)  # kivi2's, whose level next to zero counts as zero within 1e-4 of a step
        near = [1e-4 * (g.amax(1, keepdim=True) - g.amin(1, keepdim=True)).expand_as(g) / 3 for g in groups]
        zeroed = (kept.abs() < (torch.cat(near, 1) if name == "kivi2" else 1e-9)).double().mean((1, 2))
        assert found.zeroed[layer] == pytest.approx(zeroed.tolist(), abs=1e-9)
        assert not torch.allclose(k, exact[layer][1][:, : k.shape[1]])
        beyond = (k.abs() > 1.75).double().mean((1, 2)) if name == "clips" else torch.zeros(2)
        assert found.clipped[layer] == pytest.approx(beyond.tolist(), abs=1e-9)
        assert name != "clips" or beyond.min() > 0.001


def test_the_kept_reference_is_freed_layer_by_layer(tiny, monkeypatch):
    from qroar_core.diagnostics.logit_noise.observe import PropagatedNoise
    from qroar_core.diagnostics.quantized_pass import QuantizedPass

    left, passes, inner, made = [], [], PropagatedNoise.on_layer_pair, QuantizedPass.__post_init__

    def watched(self, pair):
        left.append(sorted(passes[0].reference.k))
        inner(self, pair)

    def noticed(self):
        passes.append(self)
        made(self)

    monkeypatch.setattr(PropagatedNoise, "on_layer_pair", watched)
    monkeypatch.setattr(QuantizedPass, "__post_init__", noticed)
    diagnose.run(
        tiny(layers=3), Setting(YARN, QuantSpec(weights=WeightQuantSpec(4)), diagnosis=replace(SPEC, length=64)), TEXT
    )
    assert left == [[0, 1, 2], [1, 2], [2]]
    assert passes[0].reference.k == {}


# the same cache everywhere: chunks of an evaluation, a prompt of a retrieval


@pytest.mark.parametrize("name", ["int4", "kivi2", "per channel, no residual"])
def test_a_prompt_in_chunks_reads_what_single_tokens_read(tiny, ids, name):
    quant, loaded, tokens = PRESETS[name][0], tiny(dtype=torch.float64, head_dim=HEAD), ids(300)
    condition = Condition(YARN, quant)
    with open_stream(loaded, condition, 300, chunk=256) as stream:
        stream.begin()
        single = torch.cat([stream.feed(tokens[None, t : t + 1]).hidden for t in range(300)], 1)
        chunks = torch.cat([piece.hidden for piece in stream.run(tokens)], 1)
    torch.testing.assert_close(chunks, single, rtol=0, atol=1e-9)
    with torch.no_grad():
        nll = -loaded.model.lm_head(single[0, :-1]).log_softmax(-1).gather(1, tokens[1:, None])[:, 0]
    scored = measure(loaded, condition, tokens[None], 299, chunk=64).nll[0]
    torch.testing.assert_close(scored.double(), nll, rtol=0, atol=1e-5)


class Rounds(QuantizedLayer):
    """transformers' own bookkeeping with a rounding to whole numbers, which may be done twice."""

    def __init__(self, residual):
        super().__init__(residual_length=residual)

    def _quantize(self, tensor, axis):
        return tensor.round()

    def _dequantize(self, tensor):
        return tensor


@pytest.mark.parametrize("prompt", [16, 48])
def test_behind_a_prompt_of_whole_blocks_transformers_holds_the_same_keys_exactly(prompt):
    x = torch.randn(1, 1, 100, 4, generator=torch.Generator().manual_seed(0)) * 10
    cache = Rounds(16)
    assert torch.equal(cache.update(x[:, :, :prompt], x[:, :, :prompt])[0], x[:, :, :prompt])  # read exactly
    for t in range(prompt, 100):
        read = cache.update(x[:, :, t : t + 1], x[:, :, t : t + 1])[0]
        exact = [bool((read[0, 0, n] == x[0, 0, n]).all()) for n in range(t + 1)]
        assert exact == [n >= first_exact_key(16, t) for n in range(t + 1)]


def test_what_is_read_is_said_where_the_newest_tokens_are_exact():
    said = what_a_query_reads(preset_quant("kivi2"))
    assert said.startswith("; the cache holds keys and values of the newest 1 to 128 tokens exactly and older ones")
    assert "while a prompt is read too (KIVI and transformers read the whole prompt exactly and round it then)" in said
    assert "holds values of the newest 1 to 32 tokens" in what_a_query_reads(QuantSpec(v=QuantizerSpec(4, residual=32)))
    apart = QuantSpec(k=BLOCKS, v=QuantizerSpec(4, residual=40))
    assert "keys of the newest 1 to 24 tokens, values of the newest 1 to 40" in what_a_query_reads(apart)
    assert what_a_query_reads(QuantSpec(k=QuantizerSpec(4))) == what_a_query_reads(preset_quant("q4_0")) == ""


def test_stages_say_what_their_queries_read(tiny):
    loaded = tiny()
    kivi, plain = QuantSpec(k=QuantizerSpec(4, residual=16)), QuantSpec(k=QuantizerSpec(4))
    said, asked = "keys of the newest 1 to 16 tokens exactly", replace(SPEC, length=64)
    windows = EvaluationSpec(lengths=(48,), windows=2, rotation=False)
    trials = RetrievalSpec(lengths=(200,), depths=(0.5,), trials=1)
    for quant in (kivi, plain):
        texts = [
            diagnose.run(loaded, Setting(YARN, quant, diagnosis=asked), TEXT).text,
            evaluate.run(loaded, Setting(YARN, quant, evaluation=windows), None, None, TWO_TEXTS).text,
            retrieve.run(loaded, Setting(YARN, quant), None, trials, TWO_TEXTS).text,
        ]
        assert [said in text for text in texts] == [quant is kivi] * 3


class Counted(Result):
    sample: Sample | None = None


def test_a_sample_says_which_error_and_how_many_keys_are_left_out():
    found, through = (about_errors(Counted(sample=Sample(tokens=256)), kind, 44) for kind in (LOCAL, PROPAGATED))
    assert found.sample.sentence == (
        "Counted on 256 tokens, without the newest 44, whose keys the cache still holds exactly; errors of each layer "
        "measured alone, errors of earlier layers not included."
    )
    assert through.sample.sentence == (
        "Counted on 256 tokens; errors that include those of earlier layers (the newest 44 keys, which the cache still "
        "holds exactly, have no others)."
    )
    assert about_errors(Counted(), "local", 1).sample is None
    assert [still_exact(PRESETS[name][0], 300) for name in ("int4", "kivi2", "per channel, no residual")] == [0, 44, 12]
    assert still_exact(replace(preset_quant("kivi2"), qk=QuantizerSpec(8)), 300) == 0
    assert still_exact(QuantSpec(v=BLOCKS), 300) == 0


def test_figures_of_keys_say_it(tiny):
    local = diagnose.run(tiny(head_dim=HEAD), Setting(YARN, preset_quant("kivi2"), diagnosis=SPEC), TEXT)
    both = QuantSpec(weights=WeightQuantSpec(4), k=BLOCKS)
    through = diagnose.run(tiny(), Setting(YARN, both, diagnosis=replace(SPEC, length=64)), TEXT)
    for found, tokens, exact, kind in ((local, 256, (44, 0), LOCAL), (through, 64, (0, 16), PROPAGATED)):
        for sample in (found.pair_error.sample, found.anisotropy.sample, found.rounding.sample):
            assert (sample.tokens, sample.compares) == (tokens, kind)
            assert (sample.still_exact, sample.exact_counted) == exact
        tables = [*found.tails.values(), *found.survival.values()]
        alone = [found.logit_change, found.dilation, found.outliers, found.band_cost, *tables]
        said = [f"{x.sample.tokens:,} tokens read by the unquantized model" in x.sample.sentence for x in alone]
        assert said == [True] * 12  # whatever is quantized, a cache alone too
        assert not found.hidden.sample.of_unquantized
    assert not diagnose.run(
        tiny(), Setting(YARN, QuantSpec(), diagnosis=replace(SPEC, length=64)), TEXT
    ).dilation.sample.of_unquantized
    assert through.anisotropy.over == "error"
    assert (local.outliers.still_exact, through.outliers.still_exact) == (44, 16)  # of outliers: each layer's own


def test_the_first_exact_key():
    assert first_exact_key(8, torch.tensor([0, 1, 7, 8, 17])).tolist() == [0, 0, 0, 8, 16]
    assert (first_exact_key(1, 5), first_exact_key(8, 15), first_exact_key(8, 16)) == (6, 8, 16)
