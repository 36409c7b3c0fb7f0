"""Layers chosen under a budget, against every subset measured by a model of plain transformers and numbers by hand."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from transformers import AttentionInterface

import qroar_core as qroar
from qroar_core.errors import BadSpec, Cancelled
from qroar_core.models.condition import Condition
from qroar_core.models.shared_losses import SharedLosses
from qroar_core.models.text import windows
from qroar_core.progress import no_progress
from qroar_core.quantizers.layer_flags import layer_flags, vllm_skip_words
from qroar_core.remedies import figure_layers, layer_memory, layers
from qroar_core.remedies import run as compare
from qroar_core.remedies.layer_findings import judged
from qroar_core.remedies.result_layers import LayerChoice
from qroar_core.setting import Setting
from qroar_core.specs import ComparisonSpec, QuantizerSpec, QuantSpec, RopeSpec, SearchSpec
from qroar_core.specs.layers import LayerChoiceSpec
from tests.remedies.test_comparison import TEXTS

LENGTH = 48
INT3 = QuantSpec(k=QuantizerSpec(3), v=QuantizerSpec(3))
SPEC = LayerChoiceSpec(length=LENGTH, windows=2, heldout_windows=3, chunk=16)
EVERY = range(4)


def int3(x):
    step = x.abs().amax(-1, keepdim=True) / 3
    return (x / step).round().clamp(-3, 3) * step


def plain_logits(loaded, text, kept):
    """Oracle: transformers' own forward; K after RoPE and V rounded in its attention, but for the layers kept."""

    def attention(module, query, key, value, mask, scaling=None, **other):
        if module.layer_idx not in kept:
            key, value = int3(key), int3(value)
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        scores = query @ key.mT * scaling
        later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        return (scores.masked_fill(later, -math.inf).softmax(-1) @ value).transpose(1, 2), None

    AttentionInterface.register("by_hand", attention)
    was = loaded.model.config._attn_implementation
    loaded.model.set_attn_implementation("by_hand")
    try:
        with torch.no_grad():
            return loaded.model(text, use_cache=False).logits.double()
    finally:
        loaded.model.set_attn_implementation(was)


@pytest.fixture
def four(tiny):
    return tiny(layers=4, dtype=torch.float64)


def test_the_greedy_curve_is_what_every_subset_measured_by_hand_says(four):
    text = windows(four.tokenizer, TEXTS["development"], LENGTH, 2, 0).ids
    kl, nll = {}, {}
    wide = plain_logits(four, text, EVERY)[:, :-1].log_softmax(-1)
    for count in range(5):
        for kept in itertools.combinations(EVERY, count):
            here = plain_logits(four, text, kept)[:, :-1].log_softmax(-1)
            kl[kept] = float((wide.exp() * (wide - here)).sum(-1).mean())
            nll[kept] = float(-here.gather(-1, text[:, 1:, None]).mean())
    choice = layers.run(four, Setting(RopeSpec(), INT3), SPEC, TEXTS)
    gains = [kl[()] - kl[one,] for one in EVERY]
    assert [one.gain for one in choice.layers] == pytest.approx(gains, abs=1e-9)
    order = sorted(EVERY, key=lambda layer: -gains[layer])  # every layer takes the same memory
    assert choice.order == order
    for count, point in enumerate(choice.curve):
        kept = tuple(sorted(order[:count]))
        assert tuple(point.layers) == kept
        assert point.kl == pytest.approx(kl[kept], abs=1e-9)
        assert point.lost == pytest.approx(nll[kept] - nll[tuple(EVERY)], abs=1e-9)
    assert choice.kept == sorted(order[:2])  # two where nobody names a budget
    assert choice.first_last == [0, 3]
    lost = layers.run(four, Setting(RopeSpec(), INT3), replace(SPEC, sensitivity="quantized"), TEXTS)
    alone = [kl[tuple(other for other in EVERY if other != one)] for one in EVERY]
    assert [one.gain for one in lost.layers] == pytest.approx(alone, abs=1e-9)


def test_held_out_rules_are_those_sets_of_layers_measured_by_hand(four):
    choice = layers.run(four, Setting(RopeSpec(), INT3), SPEC, TEXTS)
    held = windows(four.tokenizer, TEXTS["heldout"], LENGTH, 3, 0).ids

    def by_hand(kept):
        here = plain_logits(four, held, kept)[:, :-1].log_softmax(-1)
        return (-here.gather(-1, held[:, 1:, None])).mean((1, 2)).tolist()

    rows = {row.rule: row for row in choice.rules}
    assert [*rows] == ["none", "chosen", "first_last", "all"]
    for rule, kept in (("none", ()), ("chosen", choice.kept), ("first_last", (0, 3)), ("all", EVERY)):
        assert rows[rule].window_nll == pytest.approx(by_hand(kept), abs=1e-9)
        assert rows[rule].layers == list(kept)
    apart = [a - b for a, b in zip(rows["none"].window_nll, rows["chosen"].window_nll, strict=True)]
    mean = sum(apart) / 3
    reach = 4.302652729749462 * math.sqrt(sum((x - mean) ** 2 for x in apart) / 2 / 3)  # Student's t, 2 degrees, 97.5 %
    chosen = rows["chosen"]
    assert (chosen.gain, chosen.gain_low, chosen.gain_high) == pytest.approx((mean, mean - reach, mean + reach))
    assert chosen.lost == pytest.approx(sum(chosen.window_nll) / 3 - sum(rows["all"].window_nll) / 3)
    assert (rows["none"].gain, rows["all"].lost) == (None, None)
    assert LayerChoice.model_validate_json(choice.to_json()) is not None


def test_memory_is_counted_in_bytes_a_token(tiny):
    """int4 with a float32 scale a token and head, beside 16 bits: 2 heads of 16 channels, K and V."""
    geometry = tiny(layers=4).geometry
    quant = QuantSpec(k=QuantizerSpec(4), v=QuantizerSpec(4))
    assert (geometry.n_kv_heads, geometry.head_dim) == (2, 16)
    narrow, wide = 2 * 2 * (16 / 2 + 4), 2 * 2 * 16 * 2
    assert layer_memory.cache_bytes(geometry, quant, 100) == 4 * narrow
    assert layer_memory.cache_bytes(geometry, replace(quant, keep_layers=(1, 2)), 100) == 2 * narrow + 2 * wide
    assert layer_memory.layer_bytes(geometry, replace(quant, keep_layers=(1,)), 100) == {
        0: narrow,
        1: wide,
        2: narrow,
        3: narrow,
    }
    sliding = replace(geometry, windows=(25, None, None, 400))  # the first holds a quarter of the tokens
    assert layer_memory.layer_bytes(sliding, quant, 100) == {0: narrow / 4, 1: narrow, 2: narrow, 3: narrow}
    assert layer_memory.budget_of(geometry, quant, 100, None) == 4 * narrow + 2 * (wide - narrow)
    assert layer_memory.first_and_last(geometry, quant, 100, 3 * wide + narrow) == [0, 1, 3]


def test_a_budget_takes_what_fits_in_the_order_of_gain_per_byte():
    more = {0: 10.0, 1: 40.0, 2: 10.0, 3: 10.0}
    assert layer_memory.within([1, 3, 0, 2], more, 25.0) == [0, 3]  # 1 does not fit, the next two do
    assert layer_memory.within([1, 3, 0, 2], more, 60.0) == [0, 1, 3]
    assert layer_memory.within([1, 3], more, 9.0) == []


def test_layers_that_are_worth_nothing_are_not_kept(four, monkeypatch):
    def planted(self, kept, *rest, **named):
        return (0.5 - 0.2 * (2 in kept) + 0.1 * (0 in kept), 3.0)

    monkeypatch.setattr(layers._Passes, "_measured", planted)
    choice = layers._Passes(
        four,
        Condition(RopeSpec(), INT3),
        windows(four.tokenizer, TEXTS["development"], LENGTH, 2, 0),
        replace(SPEC, cache_bytes=1e6),
        no_progress,
        9,
    ).choice()
    assert choice.kept == [2]
    assert (choice.order[0], choice.order[-1]) == (2, 0)


@pytest.mark.slow
def test_a_budget_that_holds_no_layer_says_that_none_fits(four):
    """By hand: a layer's K and V of 2 heads and 16 channels take 2 * 2 * (16 * 3 / 8 + 4) bytes, kept 2 * 2 * 32."""
    choice = layers.run(four, Setting(RopeSpec(), INT3), replace(SPEC, cache_bytes=4 * 40 + 87), TEXTS)
    assert choice.sentences == [
        "No layer is kept: none fits into the budget of 247 bytes a token; the quantized cache takes 160, "
        "and a layer at least 88 more"
    ]
    assert [row.name for row in choice.rules][1:3] == ["chosen layers kept", "first and last layers: none fits"]
    one = layers.run(four, Setting(RopeSpec(), INT3), replace(SPEC, cache_bytes=4 * 40 + 88), TEXTS)
    (first_last,) = [row for row in one.rules if row.rule == "first_last"]
    assert (first_last.layers, first_last.name) == ([0], "first layer kept")
    assert len(one.kept) == 1
    assert "the first layer (0) under the same budget" in one.sentences[-1].replace("The first", "the first")
    spec = ComparisonSpec(("first_last_layers",), False, SearchSpec(length=LENGTH, windows=2), 3, 2, chunk=16)
    notes = [
        compare.run(four, Setting(RopeSpec(), INT3), replace(spec, cache_bytes=budget), TEXTS).rows[1].note
        for budget in (4 * 40, 4 * 40 + 88, 4 * 128)
    ]
    assert notes == [
        "no layer kept: none fits into the budget",
        "layer 0 kept",
        "every layer kept: nothing of the K/V cache is quantized",
    ]


def test_a_choice_of_every_layer_says_that_nothing_is_quantized(four):
    made = layers.run(four, Setting(RopeSpec(), INT3), SPEC, TEXTS)
    every = made.model_copy(update={"kept": [*EVERY], "bytes": 512.0, "budget": 512.0, "first_last": [*EVERY]})
    nll = {row.rule: row.window_nll for row in made.rules}
    found = judged(every, four.geometry, INT3, nll | {"chosen": nll["all"], "first_last": nll["all"]})
    assert found.sentences[0] == "Every layer kept: nothing of the K/V cache is quantized"
    assert found.sentences[1].startswith("Keeping every layer (512 bytes a token) gains ")
    said = "every layer kept: nothing of the K/V cache is quantized, 512 of at most 512 bytes a token"
    assert found.words == said


@pytest.mark.parametrize(
    ("quant", "budget", "said"),
    [
        (QuantSpec(qk=QuantizerSpec(4)), None, "neither K nor V cache is quantized"),
        (INT3, 10.0, "10 bytes a token are less than the quantized cache takes"),
    ],
)
def test_what_cannot_be_chosen_is_refused(four, quant, budget, said):
    with pytest.raises(BadSpec, match=said):
        layers.run(four, Setting(RopeSpec(), quant), replace(SPEC, cache_bytes=budget), TEXTS)


def test_it_can_be_cancelled_and_leaves_the_model_as_it_was(four):
    before = {name: p.clone() for name, p in four.model.named_parameters()}

    def stop(step):
        if step.done > 3:
            raise Cancelled("layers")

    with pytest.raises(Cancelled):
        layers.run(four, Setting(RopeSpec(), INT3), SPEC, TEXTS, stop)
    assert all(torch.equal(p, before[name]) for name, p in four.model.named_parameters())


def test_the_comparison_measures_both_rules_and_keeps_the_curve(four):
    search = SearchSpec(length=LENGTH, windows=2)
    spec = ComparisonSpec(("protected_layers", "first_last_layers"), False, search, 3, 2, chunk=16)
    result = compare.run(four, Setting(RopeSpec(), INT3), spec, TEXTS)
    assert [row.key for row in result.rows] == ["plain", "protected_layers", "first_last_layers"]
    own = layers.run(four, Setting(RopeSpec(), INT3), SPEC, TEXTS)
    assert result.layers.kept == own.kept
    assert result.layers.curve == own.curve
    by_rule = {row.rule: row.window_nll for row in own.rules}
    rows = {row.method: row.window_nll for row in result.rows}
    assert rows["protected_layers"] == pytest.approx(by_rule["chosen"])
    assert rows["first_last_layers"] == pytest.approx(by_rule["first_last"])
    assert [row.window_nll for row in result.layers.rules] == [
        pytest.approx(by_rule[row.rule]) for row in result.layers.rules
    ]
    assert result.layers.sentences[0] in result.sentences
    assert result.rows[1].note == own.words
    small = compare.run(four, Setting(RopeSpec(), INT3), replace(spec, cache_bytes=1.0), TEXTS)
    assert [row.key for row in small.rows] == ["plain"]
    assert "There is no row for protected layers: 1 bytes a token are less" in " ".join(small.sentences)
    with pytest.raises(BadSpec, match="needs a quantized K or V cache of which no layer is kept yet"):
        compare.run(four, Setting(RopeSpec(), replace(INT3, keep_layers=(1,))), spec, TEXTS)


def test_with_shared_losses_rows_have_the_kl_by_hand_and_what_is_known_is_not_measured_again(four):
    search = SearchSpec(length=LENGTH, windows=2)
    spec = ComparisonSpec(("first_last_layers",), False, search, 3, 2, chunk=16)
    setting = Setting(RopeSpec(), INT3)
    alone = compare.run(four, setting, spec, TEXTS)
    with SharedLosses() as shared:
        found = compare.run(four, setting, spec, TEXTS, shared=shared)
        again = compare.run(four, setting, spec, TEXTS, shared=shared)
        assert (shared.windows.made, shared.conditions.made) == (1, 2)  # the reference and the plain quantizer
    assert [row.window_nll for row in found.rows] == [row.window_nll for row in alone.rows]  # to the last digit
    assert again.to_json() == found.to_json()
    held = windows(four.tokenizer, TEXTS["heldout"], LENGTH, 3, 0).ids
    wide = plain_logits(four, held, EVERY)[:, :-1].log_softmax(-1)
    for row, kept in zip(found.rows, ((), (0, 3)), strict=True):
        here = plain_logits(four, held, kept)[:, :-1].log_softmax(-1)
        assert row.kl == pytest.approx(float((wide.exp() * (wide - here)).sum(-1).mean()), abs=1e-9)
    assert [row.kl for row in alone.rows] == [None, None]


def test_figures_show_every_point_with_its_table(four):
    choice = layers.run(four, Setting(RopeSpec(), INT3), SPEC, TEXTS)
    picture = figure_layers.curve(choice)
    line = picture.figure.data[0]
    assert list(line.x) == [point.bytes for point in choice.curve]
    assert list(line.y) == [point.kl for point in choice.curve]
    marks = {trace.name: trace for trace in picture.figure.data[2:]}
    assert [*marks] == [
        "no layer kept: NLL, held-out text",
        "chosen layers kept: NLL, held-out text",
        "first and last layers kept: NLL, held-out text",
    ]
    assert picture.figure.layout.shapes[0].x0 == choice.budget
    assert len(picture.table) == 5 + 4
    bars = figure_layers.worth(choice)
    assert sorted([*bars.figure.data[0].x, *bars.figure.data[1].x]) == [0, 1, 2, 3]
    assert list(bars.figure.data[0].x) == choice.kept


def test_flags_are_those_of_the_runtimes():
    assert vllm_skip_words((0, 29)) == ("--kv-cache-dtype-skip-layers", "0", "29")
    assert vllm_skip_words(()) == ()
    first, *others = layer_flags((0, 29), "fp8")
    assert first == "vLLM: --kv-cache-dtype fp8 --kv-cache-dtype-skip-layers 0 29"
    assert layer_flags((0, 29))[0].startswith("vLLM: --kv-cache-dtype-skip-layers 0 29, beside a --kv-cache-dtype")
    assert any("llama.cpp: cannot be told" in line for line in others)
    assert any("the first two and the last two" in line for line in layer_flags((5,), "turboquant_3bit_nc"))
    assert layer_flags(()) == []


def test_the_library_gives_what_keep_layers_takes(four):
    setup = qroar.Setup(quantization=qroar.quantization(kv="int3"), length=64)
    choice = layers.run(four, setup.resolve(four), replace(SPEC, length=64), TEXTS)
    kept = qroar.quantization(kv="int3", keep_layers=choice.kept)
    assert kept.keep_layers == tuple(choice.kept)
