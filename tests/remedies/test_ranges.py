"""Clipped ranges and static scales: the choice by exhaustive search, and rows measured in a model patched by hand."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from qroar_core.maths.attention_error import CapturedLayer, output_of
from qroar_core.models.calibrate import calibrated
from qroar_core.models.capture import Capture
from qroar_core.models.condition import Condition
from qroar_core.models.text import windows
from qroar_core.progress import no_progress
from qroar_core.quantizers.presets import KV_PRESETS
from qroar_core.remedies.applicable import searches
from qroar_core.remedies.methods import BY_NAME
from qroar_core.remedies.methods.clipped_ranges.prepare import best_ratios
from qroar_core.remedies.methods.static_scales.prepare import best_ranges, ranges_to_try
from qroar_core.remedies.prepare import prepare
from qroar_core.remedies.prepared import RemedyInputs
from qroar_core.remedies.range_choice import RATIOS, key_errors, value_errors
from qroar_core.specs import ComparisonSpec, QuantizerSpec, QuantSpec, RopeSpec, SearchSpec
from tests.quantizers.test_clip import nearest
from tests.remedies.test_comparison import TEXTS
from tests.remedies.test_own_searches import KV4, SEARCH, compared, held, rows_of

LAYERS, HEADS, KV, ROWS, TOKENS, SIZE = 2, 4, 2, 6, 24, 8
K3, V3 = QuantizerSpec(3), QuantizerSpec(3)
FP8 = KV_PRESETS["fp8"]


def toy():
    """Two layers of two KV heads with a loud channel, on one window; what the choice reads."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    layers = []
    for _ in range(LAYERS):
        q, k, v = draw(HEADS, ROWS, SIZE), draw(KV, TOKENS, SIZE), draw(KV, TOKENS, SIZE)
        k[0, ::2, 5] *= 4
        q[:2, :, 5] *= 0.1
        rows = torch.arange(TOKENS - ROWS, TOKENS)
        layers.append(CapturedLayer(q, rows, k, v, output_of(q, rows, k, v, 0.3)))
    metric = [draw(HEADS, SIZE, SIZE) for _ in range(LAYERS)]
    metric = [m.mT @ m for m in metric]
    still = torch.ones(TOKENS, SIZE // 2), torch.zeros(TOKENS, SIZE // 2)
    return Capture([layers], metric, torch.zeros(LAYERS, KV, SIZE), torch.zeros(0), 0.3, *still)


def exhaustive(taken, which, rounding):
    """The option of least |W_O (o^ - o)|^2 for each layer and KV head, by numpy; (options, layers, kv)."""
    out = np.zeros((len(RATIOS), LAYERS, KV))
    for option, layer, head in np.ndindex(*out.shape[:2], HEADS):
        one, kv = taken.windows[0][layer], head // (HEADS // KV)
        q, k, v = one.q[head].numpy(), one.k[kv].numpy(), one.v[kv].numpy()
        k_hat, v_hat = (rounding(x, option) if name == which else x for name, x in (("k", k), ("v", v)))
        for row, at in enumerate(one.rows.tolist()):
            logits = 0.3 * k_hat[: at + 1] @ q[row]
            p = np.exp(logits - logits.max())
            off = p / p.sum() @ v_hat[: at + 1] - one.out[head, row].numpy()
            out[option, layer, kv] += off @ taken.metric[layer][head].numpy() @ off
    return out


def given_toy():
    geometry = SimpleNamespace(head_dim=SIZE, n_kv_heads=KV, pairing="half")
    search = SearchSpec(error_metric="projected")
    none = torch.zeros(1, 8).long()
    return RemedyInputs(SimpleNamespace(geometry=geometry), RopeSpec(), QuantSpec(k=K3), none, 8, no_progress, search)


def rounded(x, option):
    return np.array([nearest(token, 3, RATIOS[option]) for token in x])


def at_ratio(option, layer):
    return K3, torch.tensor(RATIOS[option], dtype=torch.float64)


@pytest.mark.parametrize("which", ["k", "v"])
def test_the_choice_is_that_of_an_exhaustive_search(which):
    taken = toy()
    errors = key_errors(given_toy(), taken, len(RATIOS), at_ratio) if which == "k" else None
    errors = value_errors(taken, len(RATIOS), at_ratio) if errors is None else errors
    expected = exhaustive(taken, which, rounded)
    assert np.allclose(errors, expected, rtol=1e-4)
    assert np.allclose(best_ratios(errors), np.array(RATIOS)[expected.argmin(0)])
    assert len(best_ratios(errors).unique()) > 1
    assert best_ratios(torch.ones(len(RATIOS), 1, 1)) == 1  # of equal ones the whole range


def test_a_layer_of_static_heads_chooses_together_and_keeps_what_it_has_unless_another_is_better():
    options = ranges_to_try(torch.tensor([10.0, 20.0]), 448.0)
    assert options[:, 1].tolist() == pytest.approx([448, *(20 * r for r in RATIOS)])
    assert ranges_to_try(torch.tensor([10.0]), None)[:, 0].tolist() == pytest.approx([10 * r for r in RATIOS])
    errors = torch.ones(len(options), 2, 2)
    errors[3, 1] = torch.tensor([0.1, 1.8])  # by their sum
    errors[5, 1] = torch.tensor([0.0, 2.5])  # the best of one head is not that of both
    assert best_ranges(options, errors).tolist() == pytest.approx([448, 20 * RATIOS[2]])


def cache_by_hand(round_k, round_v):
    """Attention over rounded K and V; each rounding gets one head's (tokens, channels), its layer and its number."""

    def attention(module, query, key, value, mask, scaling, **rest):
        out = torch.zeros_like(query).transpose(1, 2)
        for head in range(query.shape[1]):
            kv = head // (query.shape[1] // key.shape[1])
            k, v = round_k(key[0, kv], module.layer_idx, kv), round_v(value[0, kv], module.layer_idx, kv)
            logits = query[0, head] @ k.T * scaling
            logits = logits.masked_fill(torch.ones_like(logits).triu(1).bool(), -torch.inf)
            out[0, :, head] = logits.softmax(-1) @ v
        return out, None

    return attention


def nll_by_hand(loaded, monkeypatch, round_k, round_v):
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "by_hand", cache_by_hand(round_k, round_v))
    loaded.model.set_attn_implementation("by_hand")
    losses = []
    with torch.no_grad():
        for text in held(loaded):
            logits = loaded.model(text[None], use_cache=False).logits[0, :-1]
            losses.append(float(torch.nn.functional.cross_entropy(logits, text[1:])))
    loaded.model.set_attn_implementation("sdpa")
    return losses


def prepared(loaded, method, quant):
    read = windows(loaded.tokenizer, TEXTS["calibration"], 96, 2, 0).ids
    return prepare(method, RemedyInputs(loaded, RopeSpec(), quant, read, 32, no_progress, SEARCH, TEXTS))


def measured(loaded, method, quant):
    return rows_of(compared(loaded, method, quant=quant, rope=RopeSpec()))


def test_the_row_of_clipped_ranges_is_a_model_whose_cache_clips(planted, monkeypatch):
    loaded = planted(dtype=torch.float64).loaded
    made, rows = prepared(loaded, "clipped_ranges", KV4), measured(loaded, "clipped_ranges", KV4)
    clip, row = made.clip, rows["clipped_ranges"]
    assert made.quant == KV4
    assert not made.parameters
    assert clip.k.shape == clip.v.shape == (2, 2)
    assert clip.k.min() < 1
    assert clip.v.min() < 1

    def clipped(ratios):
        def act(x, layer, head):
            return torch.stack([torch.from_numpy(nearest(t.numpy(), 4, float(ratios[layer, head]))) for t in x])

        return act

    assert row.window_nll == pytest.approx(nll_by_hand(loaded, monkeypatch, clipped(clip.k), clipped(clip.v)), abs=1e-6)
    assert row.window_nll != pytest.approx(rows["plain"].window_nll, abs=1e-4)
    assert row.gain == pytest.approx(np.mean(rows["plain"].window_nll) - np.mean(row.window_nll))
    assert row.note.startswith(f"K keeps {clip.k.min():.0%} to {clip.k.max():.0%} of its ranges, ")
    assert (row.free, row.no_op) == (False, "")


def test_only_what_takes_a_ratio_gets_one(tiny):
    loaded = tiny()
    by_channel = QuantizerSpec(4, "channel", group_size=32)
    made = prepared(loaded, "clipped_ranges", QuantSpec(k=by_channel, v=V3))
    assert made.clip.k is None
    assert made.clip.v is not None
    assert made.note.startswith("V keeps ")


def test_the_row_of_static_scales_is_a_model_with_vllm_s_scales(planted, monkeypatch):
    """Oracle: x / scale saturated to +-448 and cast by torch, with scales as the row's model was given them."""
    loaded = planted(dtype=torch.float64).loaded
    quant = QuantSpec(k=FP8.k, v=replace(FP8.v, static_scale=None))
    made, rows = prepared(loaded, "static_scales", quant), measured(loaded, "static_scales", quant)
    row = rows["static_scales"]
    assert made.quant.k.static_scale is None
    text = windows(loaded.tokenizer, TEXTS["calibration"], 96, 2, 0).ids[:1]
    whole = calibrated(loaded, Condition(RopeSpec(), made.quant), text, 32).static
    for found, largest, present in ((made.static.k, whole.k, [448.0]), (made.static.v, whole.v, [])):
        for layer in range(2):
            options = [*present, *(r * float(largest[layer]) for r in RATIOS)]
            assert min(abs(o - float(found[layer])) for o in options) < 1e-6

    def held_by(absmax):
        def act(x, layer, head):
            scale = float(absmax[layer]) / 448
            return (x / scale).clamp(-448, 448).to(torch.float8_e4m3fn).to(x) * scale

        return act

    expected = nll_by_hand(loaded, monkeypatch, held_by(made.static.k), held_by(made.static.v))
    assert row.window_nll == pytest.approx(expected, abs=1e-6)
    assert row.window_nll != pytest.approx(rows["plain"].window_nll, abs=1e-6)
    assert row.note.startswith("k_scale ")
    assert row.free


@pytest.mark.parametrize(
    ("quant", "applies"),
    [
        (KV4, (True, False)),
        (QuantSpec(k=QuantizerSpec(4, "block", group_size=8)), (True, False)),
        (QuantSpec(k=FP8.k, v=FP8.v), (False, True)),
        (QuantSpec(v=QuantizerSpec(8, "tensor")), (False, True)),
        (QuantSpec(k=QuantizerSpec(8, "tensor"), v=V3), (True, True)),
        (QuantSpec(k=QuantizerSpec(4, "block", "ggml_signed", 32)), (False, False)),
        (QuantSpec(k=QuantizerSpec(4, levels="affine")), (False, False)),
        (QuantSpec(qk=QuantizerSpec(4)), (False, False)),
    ],
    ids=str,
)
def test_where_they_apply(quant, applies):
    assert tuple(BY_NAME[name].under(quant) is not None for name in ("clipped_ranges", "static_scales")) == applies


@pytest.mark.parametrize("method", ["clipped_ranges", "static_scales"])
def test_nothing_is_searched_on_top(method):
    assert searches(ComparisonSpec(), method) == ()
    assert searches(ComparisonSpec(), "rotation") == (False,)
