"""What rounding one band alone costs, against float64 logits and an int4 that share no code with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from qroar_core.diagnostics import run as diagnose
from qroar_core.diagnostics.band_table import band_table
from qroar_core.diagnostics.bands import observe
from qroar_core.diagnostics.bands.channel_products import noise_of
from qroar_core.diagnostics.bands.figure import EVEN, alone
from qroar_core.diagnostics.bands.measure import KEY_BLOCK, part_costs
from qroar_core.diagnostics.bands.observe import shuffled
from qroar_core.diagnostics.bands.result import BandCost, uneven
from qroar_core.maths.softmax_rule import USUAL_SOFTMAX, SoftmaxRule
from qroar_core.models.sensitivity import second_order_kl
from qroar_core.models.stream import Condition, open_stream
from qroar_core.models.text import Document, windows
from qroar_core.quantizers.fake_quantize import fake_quantize
from qroar_core.setting import Setting
from qroar_core.specs import BandSpec, DiagnosisSpec, QuantizerSpec, QuantSpec, RopeSpec
from qroar_core.statistics.chance import ENOUGH, stands_out
from tests.models.families_table import CASES, loaded_of

TEXT = [Document("a", "".join(chr(97 + (i * i + 3 * i) % 26) for i in range(900)))]
SPEC = DiagnosisSpec(length=96, short_length=32, paired_tokens=16, windows=2, bands=BandSpec(4), chunk=40, query_rows=9)
YARN, INT4 = RopeSpec("yarn", 2.0), QuantSpec(k=QuantizerSpec(4))
LEVELS = {"int8": 127, "int4": 7}


def by_hand(x, levels):
    """Symmetric rounding, step from the largest |x| of each token and head, in float32 as the cache does it."""
    x = x.astype(np.float32)
    step = np.abs(x).max(-1, keepdims=True) / np.float32(levels)
    return np.clip(np.round(x / np.where(step == 0, 1, step)), -levels, levels) * step


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def dense(q, k, rows, channels, levels, scaling, window=None, softcap=None, sinks=None):
    """(RMS of the logit error, attention KL) of one layer with only `channels` of K rounded; everything whole."""
    exact, some = k.astype(np.float64), k.astype(np.float64).copy()
    some[..., channels] = by_hand(k, levels)[..., channels]
    group = q.shape[0] // k.shape[0]
    squares, kls = [], []
    for at, m in enumerate(rows):
        seen = slice(0 if window is None else max(0, m - window + 1), m + 1)
        here = []
        for h in range(q.shape[0]):
            a, b = (scaling * (x[h // group, seen] @ q[h, at].astype(np.float64)) for x in (exact, some))
            here.append((b - a) ** 2)
            if softcap is not None:
                a, b = softcap * np.tanh(a / softcap), softcap * np.tanh(b / softcap)
            if sinks is not None:
                a, b = np.append(a, sinks[h]), np.append(b, sinks[h])
            p, r = softmax(a), softmax(b)
            kls.append((p * (np.log(p) - np.log(r))).sum())
        squares.append(np.mean(here))
    return np.sqrt(np.mean(squares)), np.mean(kls)


class Keep:
    """q and K of every layer, the whole context."""

    def __init__(self):
        self.q, self.k, self.scaling, self.window = {}, {}, {}, {}

    def on_attention(self, tap):
        self.q.setdefault(tap.layer, []).append(tap.q.clone())
        self.k[tap.layer] = tap.k_seen.clone()
        self.scaling[tap.layer], self.window[tap.layer] = tap.scaling, tap.rule.window

    def on_layer(self, *args):
        pass


def kept_of(loaded, spec=SPEC, rope=YARN):
    ids = windows(loaded.tokenizer, TEXT, spec.length, 1, spec.seed).ids
    keep = Keep()
    with open_stream(loaded, Condition(rope), spec.length, chunk=spec.length) as stream:
        for _ in stream.run(ids, [keep]):
            pass
    return keep


def hold(found, loaded, part_channels, still=()):
    """Every cell of the table against the dense computation."""
    keep = kept_of(loaded)
    rows = np.array(found.logit_noise.position)
    for layer in keep.k:
        q, k = torch.cat(keep.q[layer], 1).numpy()[:, rows], keep.k[layer].numpy()
        for probe, levels in LEVELS.items():
            seen = k[:, : rows.max() + 1]
            error = ((by_hand(seen, levels) - seen.astype(np.float64)) ** 2).sum((0, 1))
            for part, channels in enumerate(part_channels(layer)):
                told = [
                    getattr(found.band_cost, name)[probe][layer][part]
                    for name in ("noise", "attention_kl", "error_share")
                ]
                if len(channels) == 0:
                    assert told == [None] * 3
                    continue
                noise, kl = dense(q, k, rows, channels, levels, keep.scaling[layer], keep.window[layer])
                assert told[0] == pytest.approx(noise, rel=1e-5)
                assert told[1] == pytest.approx(kl, rel=1e-4, abs=1e-12)
                assert told[2] == pytest.approx(error[channels].sum() / error.sum(), rel=1e-5)


def test_every_band_alone_is_what_a_dense_computation_says(tiny):
    loaded = tiny()
    found = diagnose.run(loaded, Setting(YARN, INT4, diagnosis=SPEC), TEXT)
    pairs = np.arange(8).reshape(4, 2)
    hold(found, loaded, lambda layer: [*(np.concatenate([p, p + 8]) for p in pairs), np.array([], int)])
    assert found.band_cost.channels == [4, 4, 4, 4, 0]
    assert found.band_cost.sample.tokens == 96
    assert found.band_cost.sample.rows == len(found.logit_noise.position)


def test_int4_in_force_and_int4_alone_agree_on_the_noise_of_every_band(tiny):
    """The logit noise of the quantizer in force is the sum of the bands' own, so each band's is the probe's."""
    found = diagnose.run(tiny(), Setting(YARN, INT4, diagnosis=SPEC), TEXT)
    assert np.array(found.band_cost.noise["int4"])[:, :4].astype(float) == pytest.approx(
        np.array(found.logit_noise.by_band), rel=1e-5
    )


@pytest.mark.parametrize("name", ["smollm3", "gpt_neox"])
def test_channels_without_rotation_are_a_part_of_their_own(byte_tokenizer, tokenizer_folder, name):
    loaded = loaded_of(CASES[name], byte_tokenizer, tokenizer_folder, dtype=torch.float32)
    geo = loaded.geometry
    spec = replace(SPEC, bands=BandSpec(2), length=48, short_length=16, paired_tokens=8, chunk=20)
    found = diagnose.run(loaded, Setting(RopeSpec(), INT4, diagnosis=spec), TEXT)
    half, cost = geo.rotary_dim // 2, found.band_cost
    for layer, row in enumerate(cost.noise["int4"]):
        if layer in geo.without_rope:
            assert row[:2] == [None, None]
            assert row[2] > 0
            assert cost.error_share["int4"][layer][2] == pytest.approx(1.0)
        else:
            assert min(row[:2]) > 0
            assert (row[2] is None) == (geo.rotary_dim == geo.head_dim)
    assert cost.channels == [half, half, geo.head_dim - geo.rotary_dim]
    rest = band_table(found)[-1]
    assert rest.band is None
    assert rest.pressure_rad is None
    known = [row[2] for row in cost.noise["int4"] if row[2] is not None]
    assert rest.int4_noise_nats == pytest.approx(np.sqrt(np.mean(np.square(known))))


@pytest.mark.parametrize(
    "rule",
    [
        USUAL_SOFTMAX,
        SoftmaxRule(window=700),
        SoftmaxRule(softcap=3.0),
        SoftmaxRule(sinks=torch.tensor([0.5, -1.0, 2.0, 0.0])),
    ],
    ids=str,
)
def test_over_several_blocks_of_keys_under_every_softmax(rule):
    draw = torch.Generator().manual_seed(3)
    rows = torch.tensor([0, 5, 900, KEY_BLOCK, 1500, 2100])
    q, k = torch.randn(4, len(rows), 8, generator=draw), torch.randn(2, 2200, 8, generator=draw)
    parts = [torch.tensor([0, 1, 4]), torch.tensor([2]), torch.tensor([], dtype=torch.long)]
    found = part_costs(q, rows, k, lambda x: torch.from_numpy(by_hand(x.numpy(), 7)), parts, 0.4, rule)
    sinks = None if rule.sinks is None else rule.sinks.numpy()
    for at, channels in enumerate(parts[:2]):
        noise, kl = dense(
            q.numpy(), k.numpy(), rows.numpy(), channels.numpy(), 7, 0.4, rule.window, rule.softcap, sinks
        )
        assert float(found.noise[at]) == pytest.approx(noise, rel=1e-6)
        assert float(found.kl[at]) == pytest.approx(kl, rel=1e-6)
    assert found.noise[2].isnan()
    assert found.kl[2].isnan()
    for channels in ([3, 6], [0, 1, 2, 3, 4, 5, 6, 7], [7]):  # of parts that were not asked for
        noise, _ = dense(q.numpy(), k.numpy(), rows.numpy(), channels, 7, 0.4, rule.window)
        assert float(noise_of(found.products, [torch.tensor(channels)])[0]) == pytest.approx(noise, rel=1e-6)
    assert noise_of(found.products, parts)[2].isnan()


def test_k_is_rounded_once_however_many_parts_there_are():
    draw, calls = torch.Generator().manual_seed(3), []
    rows = torch.tensor([5, 900, 1500])
    q, k = torch.randn(4, 3, 8, generator=draw), torch.randn(2, 1600, 8, generator=draw)

    def rounded(x):
        calls.append(len(x[0]))
        return x.round()

    parts = [torch.tensor([0, 1]), torch.tensor([2, 3]), torch.tensor([4, 5, 6])]
    part_costs(q, rows, k, rounded, parts, 0.4, USUAL_SOFTMAX)
    assert calls == [KEY_BLOCK, 1501 - KEY_BLOCK]


def test_rounding_is_done_once_a_probe_however_often_the_null_is_drawn(tiny, monkeypatch):
    def calls(draws):
        made = []
        monkeypatch.setattr(observe, "fake_quantize", lambda x, spec: made.append(1) or fake_quantize(x, spec))
        diagnose.run(tiny(), Setting(YARN, INT4, diagnosis=replace(SPEC, null_draws=draws)), TEXT)
        return len(made)

    assert calls(1) == calls(5)


def test_the_standard_error_of_a_bands_noise_is_that_of_rows_left_out_one_by_one(tiny):
    loaded = tiny()
    spec = replace(SPEC, query_rows=24)
    found = diagnose.run(loaded, Setting(YARN, INT4, diagnosis=spec), TEXT)
    keep, rows = kept_of(loaded, spec), np.array(found.logit_noise.position)
    channels = np.array([0, 1, 8, 9])  # band 0
    by_row = np.zeros(len(rows))
    for layer in keep.k:
        q, k = torch.cat(keep.q[layer], 1).numpy()[:, rows], keep.k[layer].numpy()
        by_row += [dense(q[:, [i]], k, rows[[i]], channels, 7, keep.scaling[layer])[0] ** 2 for i in range(len(rows))]
    by_row /= len(keep.k)
    n = len(rows)
    left = np.sqrt((by_row.sum() - by_row) / (n - 1))
    expected = np.sqrt((n - 1) / n * ((left - left.mean()) ** 2).sum())
    assert found.band_cost.noise_error["int4"][0] == pytest.approx(expected, rel=0.1)
    error = alone(found).figure.data
    assert list(next(t for t in error if t.name == "int4 alone").error_y.array) == pytest.approx(
        found.band_cost.noise_error["int4"]
    )


def test_chunks_do_not_matter(tiny):
    one, other = (diagnose.run(tiny(), Setting(YARN, INT4, diagnosis=replace(SPEC, chunk=c)), TEXT) for c in (16, 96))
    for name in ("noise", "attention_kl", "error_share"):
        a, b = (np.array([getattr(r.band_cost, name)[p] for p in LEVELS], float)[..., :4] for r in (one, other))
        assert a == pytest.approx(b, rel=1e-4)
    assert np.array(one.band_cost.null["int4"]) == pytest.approx(np.array(other.band_cost.null["int4"]), rel=1e-4)


def test_the_null_deals_the_bands_channels_and_no_others():
    parts = [torch.tensor([0, 4]), torch.tensor([1, 2, 5]), torch.tensor([3, 7])]
    dealt = shuffled(parts, seed=0, layer=1, draw=2)
    assert [len(part) for part in dealt] == [2, 3]
    assert sorted(torch.cat(dealt).tolist()) == [0, 1, 2, 4, 5]
    again, other = shuffled(parts, 0, 1, 2), [shuffled(parts, 0, 1, d) for d in range(6)]
    assert torch.equal(torch.cat(dealt), torch.cat(again))
    assert len({tuple(torch.cat(d).tolist()) for d in other}) > 1


def test_more_draws_give_more_nulls_and_the_first_is_the_same(tiny):
    one, more = (
        diagnose.run(tiny(), Setting(YARN, INT4, diagnosis=replace(SPEC, null_draws=n)), TEXT) for n in (1, 22)
    )
    assert [len(d.band_cost.null["int4"]) for d in (one, more)] == [ENOUGH, 22]  # a title needs as many
    assert [len(d.dilation.null.lost) for d in (one, more)] == [ENOUGH, 22]
    assert one.band_cost.sample.error.endswith("the null was drawn 19 times")
    assert one.dilation.sample.error == "the null was drawn 19 times"
    assert more.band_cost.null["int4"][0] == one.band_cost.null["int4"][0]
    assert more.band_cost.null["int4"][1] != more.band_cost.null["int4"][0]
    (row,) = [r for r in more.band_cost.null_rows() if "int4" in r.quantity]
    each = [uneven(draw) for draw in more.band_cost.null["int4"]]
    assert (row.low, row.high) == (min(each), max(each))
    assert row.null == pytest.approx(np.mean(each))


def test_a_band_whose_q_is_large_stands_out_of_its_null_and_an_even_one_does_not(tiny):
    """A key's error meets q: where q is eight times as large in one band, so is the noise of that band alone."""
    loaded = tiny()
    for layer in loaded.model.model.layers:
        weight = layer.self_attn.q_proj.weight.data.view(4, 16, -1)
        weight[:, [4, 5, 12, 13]] *= 8  # pairs 4 and 5, band 2
    loud = diagnose.run(loaded, Setting(YARN, INT4, diagnosis=replace(SPEC, null_draws=1)), TEXT)
    assert alone(loud).title.startswith("Band 2 alone makes the most logit noise: ")
    cost = BandCost(
        noise={"int4": [[1.0, 1.01, 0.99, 1.0, None]] * 2},
        attention_kl={"int4": [[0.1] * 4 + [None]] * 2},
        error_share={"int4": [[0.25] * 4 + [None]] * 2},
        channels=[4, 4, 4, 4, 0],
        null={"int4": [[[1.0, 1.02, 0.98, 1.0]] * 2, [[1.0, 0.97, 1.02, 1.01]] * 2] * 10},
    )
    even = loud.model_copy(update={"band_cost": cost})
    assert alone(even).title == EVEN
    bars, null = alone(even).figure.data
    assert list(bars.y) == pytest.approx([1.0, 1.01, 0.99, 1.0])
    assert list(null.y) == pytest.approx([1.0, 0.995, 1.0, 1.005])
    assert (bars.name, null.name) == ("int4 alone", "null: channels assigned to bands at random")
    assert "The title names a band where the loudest is further above" in alone(even).how_to_read
    shown = [(trace.name, trace.xaxis) for trace in alone(loud).figure.data]
    assert shown == [("int8 alone", "x"), (null.name, "x"), ("int4 alone", "x2"), (null.name, "x2")]


@pytest.mark.parametrize("draws", [19, 40])
def test_channels_that_are_all_alike_name_a_band_as_seldom_as_is_said(draws):
    """120 layers of random q and K: a share of 1/20 or 2/41 is at most 13 of them in 99 of 100 cases."""
    parts = [*torch.arange(16).split(4), torch.tensor([], dtype=torch.long)]
    rows, found = torch.tensor([20, 40, 63]), []
    for seed in range(120):
        source = torch.Generator().manual_seed(seed)
        q, k = torch.randn(2, 3, 16, generator=source), torch.randn(1, 64, 16, generator=source)
        one = part_costs(q, rows, k, lambda x: fake_quantize(x, QuantizerSpec(4)), parts, 0.25, USUAL_SOFTMAX)
        null = [noise_of(one.products, shuffled(parts, seed, 0, draw)) for draw in range(draws)]
        measured, *drawn = ([uneven([noise.tolist()])] for noise in (one.noise[:4], *null))
        found.append(stands_out(measured, drawn))
    assert 1 <= sum(found) <= 13


def test_the_output_cost_is_asked_for_and_is_the_second_order_kl(tiny):
    loaded = tiny()
    found = diagnose.run(loaded, Setting(YARN, INT4, diagnosis=replace(SPEC, band_cost=True)), TEXT)
    assert diagnose.run(loaded, Setting(YARN, INT4, diagnosis=SPEC), TEXT).band_cost.output_kl is None
    ids = windows(loaded.tokenizer, TEXT, SPEC.length, 1, SPEC.seed).ids
    part = torch.arange(16).remainder(8).div(2, rounding_mode="floor").repeat(2, 1)
    wanted = second_order_kl(loaded, Condition(YARN, INT4), ids, part, seed=0)
    assert found.band_cost.output_tokens == SPEC.length
    assert np.array(found.band_cost.output_kl["int4"])[:, :4].astype(float) == pytest.approx(wanted.numpy(), rel=1e-5)
    assert [row[4] for row in found.band_cost.output_kl["int4"]] == [None, None]
    assert "band cost" in found.seconds
