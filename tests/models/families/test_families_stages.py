"""The stages on families that differ: what is measured, searched and evaluated."""

from __future__ import annotations

import functools
import math
from dataclasses import replace

import pytest
import torch

from qroar_core.diagnostics import run as diagnose
from qroar_core.errors import BadSpec
from qroar_core.evaluation import run as evaluate
from qroar_core.maths.attention_error import attention_error, output_of
from qroar_core.models.capture import capture
from qroar_core.models.patch import check_scales
from qroar_core.models.stream import Condition, open_stream
from qroar_core.scale_search import run as search
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.setting import Setting
from qroar_core.specs import BandSpec, EvaluationSpec, QuantizerSpec, QuantSpec, RopeSpec, SearchSpec, WeightQuantSpec
from qroar_core.transforms.scales import Scales
from tests.models.families.noise import ROWS, noise_of
from tests.models.families_table import CASES, loaded_of, plain_logits
from tests.models.small_specs import ASKED, INT4, SMALL, TEXT, TEXTS


class Outputs:
    """Attention output of every layer of one chunk."""

    def __init__(self):
        self.out = {}

    def on_attention(self, tap):
        self.out[tap.layer] = tap.out.clone()

    def on_layer(self, layer, row, start, hidden):
        pass


def attention_outputs(loaded, ids):
    """Per layer what transformers' own eager attention hands to W_O, (tokens, n_heads * head_dim)."""
    outputs, hooks = {}, []
    for layer in range(loaded.geometry.n_layers):
        name = loaded.family.output_projection(loaded.geometry.decoder_layer(layer)).removesuffix(".weight")
        keep = functools.partial(lambda layer, module, args: outputs.update({layer: args[0][0].clone()}), layer)
        hooks.append(loaded.model.get_submodule(name).register_forward_pre_hook(keep))
    plain_logits(loaded.model, ids)
    for hook in hooks:
        hook.remove()
    return outputs


@pytest.fixture
def build(byte_tokenizer, tokenizer_folder):
    def one(name):
        return loaded_of(CASES[name], byte_tokenizer, tokenizer_folder, dtype=torch.float32)

    return one


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["qwen3", "gpt_neox", "cohere", "glm4", "gemma2", "falcon", "gpt_oss", "olmo2", "mixtral", "gemma3", "cohere2"],
)
def test_a_family_is_diagnosed_with_the_noise_of_transformers_own_q_and_k(build, name):
    loaded, case = build(name), CASES[name]
    found = diagnose.run(loaded, Setting(RopeSpec(), INT4, diagnosis=ROWS), TEXT)
    assert (found.pairing, found.rotary_dim, found.n_kv_heads) == (case.pairing, case.rotary_dim, case.kv_heads)
    assert len(found.pairs.turns) == case.rotary_dim // 2
    assert found.logit_noise.rms == pytest.approx(noise_of(loaded, found.logit_noise.position, 4), rel=1e-3)
    assert found.verdict.acts == "yes"


def test_noise_of_a_window_counts_keys_in_the_window_only(build):
    """A query at a late position sees 13 keys at most, so no distance beyond the window has samples."""
    found = diagnose.run(build("mistral, window"), Setting(RopeSpec(), INT4, diagnosis=SMALL), TEXT)
    by_octave = found.logit_noise.rms_by_distance
    assert [x is not None and math.isfinite(x) for x in by_octave] == [True] * 4 + [False] * (len(by_octave) - 4)


def test_a_layer_without_rope_is_diagnosed_as_what_it_is(build):
    """Its q and k are the same before and after RoPE, and no interpolation presses on it."""
    found = diagnose.run(build("smollm3"), Setting(RopeSpec("yarn", 2.0), INT4, diagnosis=SMALL), TEXT)
    for x in ("q", "k"):
        pre, post = found.tails[f"{x}/pre"].long, found.tails[f"{x}/post"].long
        assert [pre[layer] == post[layer] for layer in range(4)] == [False, True, False, True]


@pytest.mark.parametrize("before_rope", [False, True])
@pytest.mark.parametrize("name", ["gemma3", "smollm3", "qwen3"])
def test_the_cached_error_is_that_of_the_scaled_model(build, name, before_rope):
    """E(g) of the objective against the attention output of a stream whose weights carry g, layer by layer."""
    loaded, case = build(name), CASES[name]
    quant = QuantSpec(k=QuantizerSpec(4, before_rope=before_rope))
    problem = SearchProblem(loaded, RopeSpec("linear", 3.0), quant, ASKED, TEXTS)
    ids = problem.windows("calibration", problem.length, 1)
    objective = problem.objective(capture(loaded, problem.rope, ids, 8))
    log2_g = torch.linspace(-2, 2, case.layers * 2).view(case.layers, 1, 2).expand(-1, case.kv_heads, -1).contiguous()
    (layers,) = objective.capture.windows
    for layer, taken in enumerate(layers):
        only = torch.zeros_like(log2_g)
        only[layer] = log2_g[layer]
        outputs = Outputs()
        condition = Condition(problem.rope, quant, problem.scales(only))
        with open_stream(loaded, condition, problem.length, chunk=problem.length) as stream:
            for k, _v in stream.begin(1, (outputs,))[:layer]:
                k.round = None  # layers below stay exact, so that what comes into this one is unchanged
            stream.feed(ids[:1])
        moved = outputs.out[layer][:, taken.rows] - taken.out
        metric = objective.capture.metric[layer]
        expected = ((moved @ metric) * moved).sum(-1).view(case.kv_heads, -1, len(taken.rows)).sum(1)
        found = attention_error(taken, only[layer], metric, replace(objective.setup, error_metric="projected"))
        torch.testing.assert_close(found, expected, rtol=2e-2, atol=1e-4 * float(expected.max()))


def test_scales_of_a_layer_without_rope_change_no_cached_error(build):
    loaded = build("smollm3")
    problem = SearchProblem(loaded, RopeSpec(), INT4, ASKED, TEXTS)
    objective = problem.objective(capture(loaded, problem.rope, problem.windows("calibration", problem.length, 1), 8))
    g = torch.tensor([1.3, -0.7]).expand(4, 2, 2).contiguous()
    alone = g.clone()
    alone[[0, 2]] = 0
    assert objective.value(alone) == 1.0
    assert objective.value(g) == objective.value(g - alone) != 1.0
    slope, _ = objective.gradient(g, 0, torch.arange(4))
    assert [bool(s.any()) for s in slope] == [True, False, True, False]


def test_bounds_of_layers_that_no_interpolation_touches_are_the_widest(build):
    spec = replace(ASKED, pressure_weight=1.0, max_log2_scale=4.0)
    sliding, full = SearchProblem(build("gemma3"), RopeSpec("linear", 3.0), INT4, spec, TEXTS).bounds(None)
    assert sliding.tolist() == [[-4.0, 4.0]] * 2
    assert float(full.abs().max()) < 4.0


@pytest.mark.parametrize("name", ["gemma3", "smollm3"])
def test_they_are_evaluated_all_the_same(build, name):
    loaded, case = build(name), CASES[name]
    g = torch.full((case.layers, case.kv_heads, 1), 2.0, dtype=torch.float64)
    tuned = Scales("symmetric", "model", ((0, case.rotary_dim // 2 - 1),), g)
    spec = EvaluationSpec(lengths=(40,), windows=2, rotation=False)
    found = evaluate.run(loaded, Setting(RopeSpec("linear", 2.0), INT4, evaluation=spec), tuned, None, TEXT)
    nll = {(row.model, row.scales): row.nll for row in found.rows}
    assert nll["reference", "tuned"] == pytest.approx(nll["reference", "identity"], abs=1e-4)
    assert nll["quantized", "identity"] != pytest.approx(nll["reference", "identity"], abs=1e-4)


def test_a_search_per_head_is_refused_where_the_gain_is_shared_and_per_layer_it_runs(build):
    loaded = build("qwen3")
    with pytest.raises(
        BadSpec, match=r"--granularity kv_head: qwen3 shares its QK-norm gain .* choose --granularity layer"
    ):
        search.run(
            loaded, Setting(RopeSpec(), INT4, search=SearchSpec(bands=BandSpec(2), granularity="kv_head")), {}
        )  # no text read
    before = {name: p.clone() for name, p in loaded.model.named_parameters()}
    outcome = search.run(loaded, Setting(RopeSpec(), INT4, search=ASKED), TEXTS)
    assert outcome.found.granularity == "layer"
    assert torch.equal(outcome.found.g, outcome.found.g[:, :1].expand_as(outcome.found.g))
    assert all(torch.equal(p, before[name]) for name, p in loaded.model.named_parameters())


def test_scales_shared_by_heads_are_shared_to_the_last_bit(build):
    """2^x of equal x in one vector may differ by a rounding, which the check of a shared gain would refuse."""
    loaded = build("qwen3")
    problem = SearchProblem(loaded, RopeSpec(), INT4, replace(ASKED, bands=BandSpec(3)), TEXTS)
    for seed in range(100):  # 18 numbers, no whole number of vectors
        x = torch.rand(2, 1, 3, generator=torch.Generator().manual_seed(seed))
        check_scales(loaded, problem.scales(x.expand(2, 3, 3).contiguous()))
    whole = replace(ASKED, granularity="model", bands=BandSpec(3))
    g = SearchProblem(build("llama, 1 KV head"), RopeSpec(), INT4, whole, TEXTS).scales(torch.full((2, 1, 3), 0.3)).g
    assert g.tolist() == [[[pytest.approx(2**0.3)] * 3]] * 2


@pytest.mark.parametrize("name", ["gemma2", "gpt_oss", "mistral, window", "gemma3", "smollm3, window"])
def test_the_search_sees_caps_sinks_and_windows(build, name):
    """What it captures and computes again is transformers' own attention output, which a plain softmax is not."""
    loaded = build(name)
    problem = SearchProblem(loaded, RopeSpec(), INT4, ASKED, TEXTS)
    ids = problem.windows("calibration", problem.length, 1)
    objective = problem.objective(capture(loaded, problem.rope, ids, 8))
    own = attention_outputs(loaded, ids)
    setup = replace(objective.setup, error_metric="output")
    plain = []
    for layer, (taken, metric) in enumerate(zip(objective.capture.windows[0], objective.capture.metric, strict=True)):
        out = own[layer].view(problem.length, len(taken.q), -1)[taken.rows].transpose(0, 1)
        torch.testing.assert_close(taken.out, out, rtol=1e-4, atol=1e-5)
        none = torch.zeros(len(taken.k), ASKED.bands.count)
        again = attention_error(replace(taken, out=out), none, metric, setup, reference=True)
        assert float(again.max()) < 1e-8 * float(out.square().sum(-1).max())
        without = output_of(taken.q, taken.rows, taken.k, taken.v, objective.setup.scaling)
        plain.append(float((without - out).abs().max()))
    assert max(plain) > 1e-2


def test_a_scale_in_the_gain_never_meets_the_weight_quantizer(build):
    """One scale a matrix: with rows of W scaled it could act, with the gain scaled it cannot; the verdict says so."""
    weights = QuantSpec(weights=WeightQuantSpec(4, "tensor"))
    for name, acts in (("qwen3", "no"), ("llama, 1 KV head", "yes")):
        found = diagnose.run(build(name), Setting(RopeSpec(), weights, diagnosis=SMALL), TEXT)
        assert found.verdict.acts == acts
    outcome = search.run(build("qwen3"), Setting(RopeSpec(), weights, search=ASKED), TEXTS)
    assert outcome.report.trials == 0
    assert "gain of the QK-norm" in outcome.report.verdict.reason
