"""The comparison against conditions measured by hand, and each remedy against what it must be."""

import math
from dataclasses import replace

import pytest
import torch

from qroar_core.errors import BadSpec, Cancelled
from qroar_core.models.condition import Condition
from qroar_core.models.linear_inputs import linear_inputs
from qroar_core.models.patch import substituted_weights
from qroar_core.models.text import Document, windows
from qroar_core.models.window_losses import measure
from qroar_core.progress import no_progress
from qroar_core.quantizers.weights import fake_quantize_weight
from qroar_core.remedies import run as compare
from qroar_core.remedies.applicable import applicable_remedies
from qroar_core.remedies.methods.awq.prepare import awq_search
from qroar_core.remedies.methods.gptq.prepare import gptq
from qroar_core.remedies.prepare import prepare
from qroar_core.remedies.prepared import RemedyInputs
from qroar_core.scale_search.search_without_decision import find_scales
from qroar_core.setting import Setting
from qroar_core.specs import BandSpec, ComparisonSpec, QuantizerSpec, QuantSpec, RopeSpec, SearchSpec, WeightQuantSpec
from qroar_core.transforms.scales import Scales

YARN = RopeSpec("yarn", 2.0)
K4, W3 = QuantizerSpec(4), WeightQuantSpec(3, "group", 16)
MAPS, LAST = ("pair_scales", "tied_maps"), ("rotation", "value_rotation")
CLIP = "clipped_ranges"
KEPT = ("protected_layers", "first_last_layers")
EVERYTHING = QuantSpec(W3, k=QuantizerSpec(3), activations=QuantizerSpec(4))
SEARCH = SearchSpec(bands=BandSpec(4), length=96, windows=2, steps=8, query_rows=16, error_metric="projected")
SPEC = ComparisonSpec(search=SEARCH, windows=4, calibration_windows=2, chunk=32)


def writing(seed):
    """Words of a tiny language, so that windows differ and repeat."""
    draw = torch.randint(0, 6, (600,), generator=torch.Generator().manual_seed(seed))
    return " ".join(["the", "quick", "fox", "jumps", "over", "dogs"][i] for i in draw.tolist())


TEXTS = {name: [Document(name, writing(seed))] for seed, name in enumerate(("calibration", "development", "heldout"))}


def by_hand(loaded, quant, scales=None):
    """Window means of one condition on the comparison's held-out windows."""
    held = windows(loaded.tokenizer, TEXTS["heldout"], 96, 4, 0).ids
    return measure(loaded, Condition(YARN, quant, scales), held, 95).per_window


def ordered(result):
    return [row.key for row in result.rows]


def test_rows_are_the_conditions_measured_by_hand(planted, monkeypatch):
    made = planted()
    loaded = made.loaded
    quant = QuantSpec(k=K4)
    asked = []

    def found(model, setting, texts, on_step):
        asked.append((setting.rope, setting.quant, setting.search))
        return find_scales(model, setting, texts, on_step=on_step)

    monkeypatch.setattr(compare, "find_scales", found)
    spec = replace(SPEC, methods=("smooth_attention", "kvquant", "rotation"))
    result = compare.run(loaded, Setting(YARN, quant), spec, TEXTS)
    assert ordered(result) == [
        "plain",
        "plain+",
        "smooth_attention",
        "smooth_attention+",
        "kvquant",
        "rotation",
        "rotation+",
    ]
    rows = {row.key: row for row in result.rows}
    turned = QuantSpec(k=QuantizerSpec(4, rotation="hadamard"))
    assert result.reference_window_nll == pytest.approx(by_hand(loaded, QuantSpec()))
    assert rows["plain"].window_nll == pytest.approx(by_hand(loaded, quant))
    assert rows["rotation"].window_nll == pytest.approx(by_hand(loaded, turned))
    by_channel = QuantizerSpec(4, "channel", "affine", 32, scale_dtype="input", before_rope=True, residual=128)
    assert rows["kvquant"].window_nll == pytest.approx(by_hand(loaded, QuantSpec(k=by_channel)))
    assert [one[1] for one in asked] == [quant, quant, turned]
    assert {one[2] for one in asked} == {SEARCH}
    scales = find_scales(loaded, Setting(YARN, turned, search=SEARCH), TEXTS)
    assert rows["rotation+"].window_nll == pytest.approx(by_hand(loaded, turned, scales))
    best = rows["plain+"]
    assert best.window_nll == pytest.approx(
        by_hand(loaded, quant, find_scales(loaded, Setting(YARN, quant, search=SEARCH), TEXTS))
    )
    read = windows(loaded.tokenizer, TEXTS["calibration"], 96, 2, 0).ids
    smoothed = prepare("smooth_attention", RemedyInputs(loaded, YARN, quant, read, 32, no_progress))
    with substituted_weights(loaded, smoothed.parameters):
        assert rows["smooth_attention"].window_nll == pytest.approx(by_hand(loaded, quant))
        on_top = find_scales(loaded, Setting(YARN, quant, search=SEARCH), TEXTS)
        assert rows["smooth_attention+"].window_nll == pytest.approx(by_hand(loaded, quant, on_top))
    apart = [a - b for a, b in zip(rows["plain"].window_nll, best.window_nll, strict=True)]
    assert best.gain == best.added == pytest.approx(sum(apart) / 4)
    gap = sum(rows["plain"].window_nll) / 4 - sum(result.reference_window_nll) / 4
    assert result.gap == pytest.approx(gap)
    assert best.gap_recovered == (pytest.approx(best.gain / gap) if result.gap_low > 0 else None)
    assert best.gain > 0.3 * gap  # the planted outlier is found
    assert best.ppl == pytest.approx(math.exp(sum(best.window_nll) / 4))
    assert "every channel has its own scale" in rows["kvquant"].no_op


def test_smooth_attention_is_one_scale_a_pair_from_the_range_of_k(tiny, ids):
    """Oracle: k of a plain forward, its range by pair, and the logits of the smoothed weights in full precision."""
    loaded = tiny(dtype=torch.float64)
    text = ids(2, 64)
    made = prepare("smooth_attention", RemedyInputs(loaded, RopeSpec(), QuantSpec(k=K4), text, 32, no_progress))
    x = {}
    layer = loaded.model.model.layers[1].self_attn
    hook = layer.k_proj.register_forward_hook(lambda m, args, out: x.update(k=out))
    with torch.no_grad():
        before = loaded.model(text, use_cache=False).logits
    hook.remove()
    k = x["k"].unflatten(-1, (2, 16)).transpose(1, 2)  # (windows, kv, tokens, head_dim)
    cos, sin = loaded.model.model.rotary_emb(k, torch.arange(64)[None])
    turned = k * cos + torch.cat((-k[..., 8:], k[..., :8]), -1) * sin
    reach = turned.abs().amax((0, 2)).view(2, 2, 8).amax(1)  # the larger channel of a pair; (kv, pairs)
    g = reach**0.5
    g = g / g.log().mean(-1, keepdim=True).exp()
    name = "model.layers.1.self_attn.k_proj.weight"
    expected = layer.k_proj.weight / torch.cat((g, g), -1).flatten()[:, None]
    assert torch.allclose(made.parameters[name], expected, atol=1e-6)
    with substituted_weights(loaded, made.parameters), torch.no_grad():
        assert torch.allclose(loaded.model(text, use_cache=False).logits, before, atol=1e-6)


def test_gptq_and_awq_stand_on_the_inputs_of_their_own_linears(tiny, ids):
    loaded, text = tiny(), ids(2, 64)
    given = RemedyInputs(loaded, RopeSpec(), QuantSpec(W3), text, 32, no_progress)
    rounded, scaled = prepare("gptq", given), prepare("awq", given)
    assert rounded.quant == QuantSpec()
    assert scaled.quant == QuantSpec(W3)
    own = {name: p.data for name, p in loaded.model.named_parameters()}
    seen = []
    for inputs in linear_inputs(loaded, RopeSpec(), text, chunk=32):
        stacked = torch.cat([own[name] for name in inputs.weights])
        for name in inputs.weights:
            seen.append(name)
            assert torch.allclose(rounded.parameters[name], gptq(own[name], inputs.hessian, W3), atol=1e-6)
            if "o_proj" in name:  # W_V has fewer rows than W_O has inputs, and cannot take 1/s
                assert name not in scaled.parameters
                continue
            s, _ = awq_search(stacked, inputs.mean_abs, inputs.hessian, W3)
            assert torch.allclose(scaled.divide[name], s)
            assert torch.allclose(scaled.parameters[name], own[name] * s)
    assert sorted(rounded.parameters) == sorted(seen)


def test_awq_scales_w_o_where_v_has_as_many_heads(tiny, ids):
    loaded = tiny(num_key_value_heads=4)
    made = prepare("awq", RemedyInputs(loaded, RopeSpec(), QuantSpec(W3), ids(1, 64), 32, no_progress))
    assert "model.layers.0.self_attn.o_proj.weight" in made.parameters


def test_smoothquant_smooths_what_reads_the_normed_stream(tiny, ids):
    loaded, text = tiny(), ids(2, 64)
    made = prepare("smoothquant", RemedyInputs(loaded, RopeSpec(), EVERYTHING, text, 32, no_progress))
    parts = {name.split(".")[-2] for name in made.parameters}
    assert parts == {"q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"}
    assert made.quant == EVERYTHING
    name = "model.layers.0.mlp.up_proj.weight"
    inputs = next(one for one in linear_inputs(loaded, RopeSpec(), text) if name in one.weights)
    both = torch.cat([loaded.model.get_parameter(n).data for n in inputs.weights])
    expected = (inputs.absmax / both.abs().amax(0)).sqrt()
    assert torch.allclose(made.divide[name], expected, rtol=1e-5)


@pytest.mark.parametrize("method", ["awq", "smoothquant", "smooth_attention"])
def test_a_readied_model_is_the_same_model_in_full_precision(tiny, ids, method):
    loaded, text = tiny(dtype=torch.float64), ids(2, 64)
    made = prepare(method, RemedyInputs(loaded, YARN, EVERYTHING, text, 32, no_progress))
    before = measure(loaded, Condition(YARN), text, 63).per_window
    with substituted_weights(loaded, made.parameters, made.divide):
        assert measure(loaded, Condition(YARN), text, 63).per_window == pytest.approx(before, abs=1e-9)
        quantized = measure(loaded, Condition(YARN, made.quant), text, 63).per_window
    assert quantized != pytest.approx(before, abs=1e-3)


def test_band_scales_on_gptq_weights_are_gptq_of_scaled_weights(tiny, ids):
    """What a comparison measures on top of GPTQ is what a checkpoint made the other way round would give."""
    loaded, text = tiny(dtype=torch.float64), ids(2, 64)
    bands = ((0, 3), (4, 7))
    scales = Scales("symmetric", "kv_head", bands, torch.linspace(-2, 2, 8).double().exp2().view(2, 2, 2))
    quant = QuantSpec(W3, k=K4)
    made = prepare("gptq", RemedyInputs(loaded, YARN, quant, text, 32, no_progress))
    with substituted_weights(loaded, made.parameters):
        one = measure(loaded, Condition(YARN, made.quant, scales), text, 63).per_window
    from qroar_core.models.patch import scaled_parameters

    with substituted_weights(loaded, scaled_parameters(loaded, scales)):
        other = prepare("gptq", RemedyInputs(loaded, YARN, quant, text, 32, no_progress))
    with substituted_weights(loaded, other.parameters):
        assert measure(loaded, Condition(YARN, other.quant), text, 63).per_window == pytest.approx(one, abs=1e-6)


def test_weights_alone_are_no_place_for_band_scales(tiny, monkeypatch):
    monkeypatch.setattr(compare, "find_scales", lambda *a, **b: pytest.fail("searched where scales cannot act"))
    loaded = tiny()
    result = compare.run(loaded, Setting(YARN, QuantSpec(W3)), SPEC, TEXTS)
    assert ordered(result) == ["plain", "awq", "gptq"]
    assert all("Q(g w) = g Q(w)" in row.no_op for row in result.rows)
    assert result.rows[0].window_nll == pytest.approx(by_hand(loaded, QuantSpec(W3)))
    own = {name: p.data for name, p in loaded.model.named_parameters()}
    rtn = {n: fake_quantize_weight(w, W3) for n, w in own.items() if "_proj" in n}
    with substituted_weights(loaded, rtn):
        assert result.rows[0].window_nll == pytest.approx(by_hand(loaded, QuantSpec()))


@pytest.mark.parametrize(
    ("quant", "expected"),
    [
        (QuantSpec(k=K4), [*MAPS, "smooth_attention", CLIP, "kvquant", "kivi", *KEPT, "rotation"]),
        (
            QuantSpec(k=QuantizerSpec(4, rotation="hadamard")),
            [*MAPS, "smooth_attention", CLIP, "kvquant", "kivi", *KEPT],
        ),
        (QuantSpec(k=K4, v=QuantizerSpec(3)), [*MAPS, "value_maps", "smooth_attention", CLIP, "kvquant", *KEPT, *LAST]),
        (QuantSpec(k=QuantizerSpec(2, "channel", group_size=32)), [*KEPT]),
        (QuantSpec(k=QuantizerSpec(8, "tensor", "e4m3")), [*MAPS, "smooth_attention", "static_scales", *KEPT]),
        (QuantSpec(qk=QuantizerSpec(8)), [*MAPS, "smooth_attention", "rotation"]),
        (QuantSpec(v=K4), ["value_maps", CLIP, *KEPT, "value_rotation"]),
        (QuantSpec(WeightQuantSpec(8, "tensor")), []),
        (QuantSpec(W3), ["awq", "gptq"]),
        (EVERYTHING, [*MAPS, "smooth_attention", CLIP, "kvquant", *KEPT, "rotation", "awq", "gptq", "smoothquant"]),
    ],
    ids=str,
)
def test_who_takes_part_follows_from_what_is_quantized(quant, expected):
    assert [one.method for one in applicable_remedies(quant, ())] == ["plain", *expected]


def test_what_does_not_apply_is_refused_by_name():
    with pytest.raises(BadSpec, match="gptq does not apply: it needs weights with a scale per channel"):
        applicable_remedies(QuantSpec(k=K4), ("rotation", "gptq"))
    with pytest.raises(BadSpec, match="nothing is quantized"):
        applicable_remedies(QuantSpec(), ())
    with pytest.raises(BadSpec, match="unknown remedy 'quarot'; choose one of awq"):
        ComparisonSpec(("quarot",))
    assert [one.method for one in applicable_remedies(QuantSpec(k=K4), ("rotation",))] == ["plain", "rotation"]


def test_without_band_scales_nothing_is_searched(tiny, monkeypatch):
    monkeypatch.setattr(compare, "find_scales", lambda *a, **b: pytest.fail("searched where nobody asked"))
    spec = ComparisonSpec(("rotation",), band_scales=False, search=SEARCH, windows=2, calibration_windows=1)
    steps = []
    result = compare.run(tiny(), Setting(YARN, QuantSpec(k=K4)), spec, TEXTS, steps.append)
    assert ordered(result) == ["plain", "rotation"]
    done = [step.done for step in steps]
    assert done == sorted(done)
    assert {step.stage for step in steps} == {"comparison"}
    assert steps[-1].done == steps[-1].total


def test_angles_are_searched_beside_the_scales_alone_and_never_under_finished_codes(planted, monkeypatch):
    loaded, quant = planted().loaded, QuantSpec(WeightQuantSpec(4), k=K4)
    turning = replace(SEARCH, angles=True)
    asked = []

    def found(model, setting, texts, on_step):
        asked.append((setting.quant.weights, setting.search))
        return find_scales(model, setting, texts, on_step=on_step)

    monkeypatch.setattr(compare, "find_scales", found)
    steps = []
    spec = replace(SPEC, methods=("rotation", "gptq"), search=turning)
    result = compare.run(loaded, Setting(YARN, quant), spec, TEXTS, steps.append)
    assert ordered(result) == ["plain", "plain+", "plain++", "rotation", "rotation+", "rotation++", "gptq", "gptq+"]
    w4 = quant.weights
    assert asked == [(w4, SEARCH), (w4, turning), (w4, SEARCH), (w4, turning), (None, SEARCH)]
    rows = {row.key: row for row in result.rows}
    scales = find_scales(loaded, Setting(YARN, quant, search=turning), TEXTS)
    assert scales.angles is not None
    assert rows["plain++"].window_nll == pytest.approx(by_hand(loaded, quant, scales))
    alone = find_scales(loaded, Setting(YARN, quant, search=SEARCH), TEXTS)
    assert rows["plain+"].window_nll == pytest.approx(by_hand(loaded, quant, alone))
    read = len(writing(0)) // 96  # windows of all that there is, for GPTQ, in parts of a condition's four
    searched = 3 * (3 / 2 + 1) + 2 * (6 / 2 + 1)  # two windows each; with angles twice the work
    units = 1 + 3 + searched + 2 / 2 + read / 4  # the reference, 3 alone, GPTQ made
    assert (steps[-1].done, steps[-1].total) == (units, units)


@pytest.mark.parametrize("method", ["gptq", "smoothquant", "smooth_attention"])
def test_a_cancelled_comparison_leaves_the_model_as_it_was(tiny, method):
    loaded = tiny()
    before = {name: p.data.clone() for name, p in loaded.model.named_parameters()}

    def stop(step):
        if "band scales under" in step.what and method != "plain" and step.done > 8:
            raise Cancelled("comparison")

    with pytest.raises(Cancelled) as caught:
        compare.run(
            loaded,
            Setting(YARN, EVERYTHING),
            ComparisonSpec((method,), search=SEARCH, windows=2, calibration_windows=1),
            TEXTS,
            stop,
        )
    assert caught.value.partial is None
    assert all(torch.equal(p.data, before[name]) for name, p in loaded.model.named_parameters())
    assert not any(m._forward_pre_hooks for m in loaded.model.modules())
