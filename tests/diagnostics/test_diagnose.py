"""The assembled diagnosis: planted causes are found, invariants hold, nothing is left behind."""

import math
from dataclasses import replace

import pytest
import torch

from qroar_core.diagnostics import run as diagnose
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.errors import BadScales, BadSpec, BadText, Cancelled
from qroar_core.interpolations.bands import partition
from qroar_core.interpolations.frequencies import native_inv_freq
from qroar_core.interpolations.tie import Tie
from qroar_core.maths.rope import unrotate
from qroar_core.models.stream import Condition, open_stream
from qroar_core.models.text import Document, split, windows
from qroar_core.setting import Setting, default_setting
from qroar_core.specs import BandSpec, DiagnosisSpec, QuantizerSpec, QuantSpec, RopeSpec, WeightQuantSpec
from qroar_core.transforms.groups import groups_of
from qroar_core.transforms.scales import Scales, identity

TEXT = [Document("a", "".join(chr(97 + (i * i + 3 * i) % 26) for i in range(900)))]
INT4 = QuantSpec(k=QuantizerSpec(4))
YARN = RopeSpec("yarn", 2.0)
SPEC = DiagnosisSpec(length=128, short_length=32, paired_tokens=16, windows=4, eps=0.02, bands=BandSpec(4), chunk=48)


def test_a_planted_outlier_band_is_where_the_damage_is(planted):
    case = planted(layer=1, kv_head=0, band=2, factor=32.0)
    found = diagnose.run(case.loaded, Setting(YARN, INT4, diagnosis=SPEC), TEXT)
    clean = diagnose.run(case.plain, Setting(YARN, INT4, diagnosis=SPEC), TEXT)
    # its channels stand out of the maps ...
    maps = torch.tensor(found.outliers.maps["k/post"], dtype=torch.float64)  # (layers, heads, channels, bins)
    loud = maps.amax(-1)[1, 0]
    first, last = case.bands[2]
    planted_channels = {*range(first, last + 1), *(c + 16 for c in range(first, last + 1))}
    assert set(loud.topk(len(planted_channels)).indices.tolist()) == planted_channels
    # ... its range is 32 times the clean model's, in the maps and in the ranges by band
    before = torch.tensor(clean.outliers.maps["k/post"], dtype=torch.float64).amax(-1)[1, 0]
    assert (loud / before)[list(planted_channels)].tolist() == pytest.approx([32.0] * 8, rel=2e-3)
    # ... and the other bands of that layer lose their logits to it
    noise, quiet = torch.tensor(found.logit_noise.by_band), torch.tensor(clean.logit_noise.by_band)
    others = [0, 1, 3]
    assert float((noise[1, others] / quiet[1, others]).min()) > 3
    assert noise[0].tolist() == pytest.approx(quiet[0].tolist(), rel=1e-4)  # layer 0 is as it was


def test_tails_are_equal_where_nothing_depends_on_the_context(tiny):
    """One layer's q and k before RoPE are the token's own: rho_W is 1 in every window, whatever stands before it."""
    found = diagnose.run(tiny(layers=1), Setting(RopeSpec(), QuantSpec(), diagnosis=SPEC), TEXT)
    for x in ("q", "k"):
        table = found.tails[f"{x}/pre"]
        assert torch.tensor(table.ratio).flatten().tolist() == pytest.approx([1.0] * 8, abs=1e-5)
    assert found.tails["k/post"].ratio != found.tails["k/pre"].ratio  # turned by other angles


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("opening", [0, 1])
@pytest.mark.parametrize(
    ("length", "short", "asked", "windows", "expected"),
    [
        (1024, 256, 64, 8, (8, 64)),
        (256, 64, 64, 8, (8, 24)),
        (128, 64, 64, 8, (8, 8)),
        (64, 32, 64, 8, (4, 8)),
        (32, 16, 64, 8, (2, 8)),
        (1024, 256, 400, 2, (2, 384)),
        (128, 32, 16, 4, (4, 16)),
        (64, 32, 64, 2, (2, 16)),
    ],
)
def test_no_short_window_is_the_start_of_the_long_context(length, short, asked, windows, expected, opening, paired):
    spec = DiagnosisSpec(length, short, asked, windows, paired=paired)
    filled, ends = diagnose._paired_windows(spec, length, short, opening)
    assert (len(ends), filled.paired_tokens) == (expected[0], min(expected[1], short - opening))
    assert ends[-1] == length
    assert min(ends) - short >= filled.paired_tokens  # every window's text starts at a later token than the context
    assert all(b - a >= filled.paired_tokens for a, b in zip(ends, ends[1:]))  # no token is compared twice
    assert filled.paired_tokens <= short - opening


def test_post_rope_tails_hold_their_invariants(tiny):
    """RoPE keeps pair norms up to a(s), so post-RoPE tails lie within a(s)/sqrt 2 .. a(s) sqrt 2 of pre."""
    found = diagnose.run(tiny(dtype=torch.float64), Setting(YARN, INT4, diagnosis=SPEC), TEXT)
    a = found.pairs.attention_factor
    assert a == pytest.approx(0.1 * math.log(2) + 1)
    for x in ("q", "k"):
        pre, post = (torch.tensor(found.tails[f"{x}/{side}"].long) for side in ("pre", "post"))
        ratio = post / pre
        assert float(ratio.max()) < a * math.sqrt(2) * 1.05
        assert float(ratio.min()) > a / math.sqrt(2) / 1.05


def test_logit_noise_equals_a_dense_computation(tiny):
    """Oracle: full float64 logits of the last layer from the stream's own q and k, rounded by hand."""
    loaded = tiny(dtype=torch.float64)
    found = diagnose.run(loaded, Setting(YARN, INT4, diagnosis=SPEC), TEXT)
    kept = {}

    class Keep:
        def on_attention(self, tap):
            kept[tap.layer] = (tap.q.clone(), tap.k.clone(), tap.scaling)

        def on_layer(self, *args):
            pass

    ids = windows(loaded.tokenizer, TEXT, 128, 1).ids
    with open_stream(loaded, Condition(YARN), 128, chunk=128) as stream:
        list(stream.run(ids, (Keep(),)))
    q, k, scaling = kept[1]
    step = k.abs().amax(-1, keepdim=True) / 7
    error = ((k / step).round() * step - k).repeat_interleave(2, 0)
    noise = (q @ error.mT) * scaling  # (heads, m, n)
    for row, value in zip(found.logit_noise.position, found.logit_noise.by_layer[1], strict=True):
        exact = float(noise[:, row, : row + 1].square().mean().sqrt())
        assert value == pytest.approx(exact, rel=1e-4)


def test_weight_noise_is_measured_through_the_model(tiny):
    found = diagnose.run(tiny(), Setting(YARN, QuantSpec(weights=WeightQuantSpec(4)), diagnosis=SPEC), TEXT)
    assert found.logit_noise.kind == "that include those of earlier layers"
    assert min(found.logit_noise.rms) > 0
    assert found.pair_error is not None
    assert found.verdict.acts == "no"


def test_without_a_quantizer_nothing_is_blamed_on_one(tiny):
    found = diagnose.run(tiny(), Setting(YARN, QuantSpec(), diagnosis=SPEC), TEXT)
    assert (found.logit_noise, found.pair_error, found.hidden, found.anisotropy) == (None,) * 4
    assert found.verdict.acts == "no"


def test_an_almost_exact_quantizer_leaves_hidden_states_alone(tiny):
    coarse = diagnose.run(tiny(), Setting(YARN, INT4, diagnosis=SPEC), TEXT)
    fine = diagnose.run(tiny(), Setting(YARN, QuantSpec(k=QuantizerSpec(8)), diagnosis=SPEC), TEXT)
    worst = min(v for layer in fine.hidden.sqnr_db for v in layer)
    assert worst > max(v for v in coarse.hidden.sqnr_db[1]) - 3
    ratio = torch.tensor(coarse.logit_noise.rms).mean() / torch.tensor(fine.logit_noise.rms).mean()
    assert float(ratio) == pytest.approx(127 / 7, rel=0.15)  # step ratio of int4 and int8


def test_the_file_reads_back_as_it_was(tiny, tmp_path):
    from qroar_core.result import rounded

    found = diagnose.run(tiny(), Setting(YARN, INT4, diagnosis=SPEC), TEXT)
    path = tmp_path / "diagnosis.json"
    path.write_text(found.to_json())
    assert rounded(Diagnosis.from_file(path).model_dump()) == rounded(found.model_dump())


def test_every_layer_head_and_band_is_there(tiny):
    found = diagnose.run(tiny(), Setting(YARN, INT4, diagnosis=SPEC), TEXT)
    assert [b.index for b in found.bands] == [0, 1, 2, 3]
    for table in found.tails.values():
        assert torch.tensor(table.ratio).shape == (2, 2, 4)
        assert torch.tensor(table.native).shape == (2, 2, 4)
    assert torch.tensor(found.tail_inflation["post"]["k"]).shape == (2, 4)
    assert torch.tensor(found.outliers.maps["q/pre"]).shape == (2, 4, 16, 16)  # q by query head
    assert torch.tensor(found.outliers.maps["k/pre"]).shape == (2, 2, 16, 16)
    assert torch.tensor(found.dilation.absmax).shape == (2, 4, 16)
    assert (found.pairing, found.rotary_dim, found.head_dim, found.n_kv_heads) == ("half", 16, 16, 2)


def gathered(loaded, rope, ids, length, chunk):
    """q and k before RoPE of every layer, whole, from a plain stream."""
    kept = {}

    class Keep:
        def on_attention(self, tap):
            for name, x in (("q", tap.q), ("k", tap.k)):
                pre = unrotate(x, tap.cos, tap.sin, loaded.geometry.pairing)
                kept.setdefault((name, "pre", tap.layer, tap.row), []).append(pre.clone())
                kept.setdefault((name, "post", tap.layer, tap.row), []).append(x.clone())

        def on_layer(self, *args):
            pass

    with open_stream(loaded, Condition(rope), length, chunk=chunk, batch=len(ids)) as stream:
        list(stream.run(ids, (Keep(),)))
    return {key: torch.cat(parts, 1) for key, parts in kept.items()}


@pytest.mark.parametrize("side", ["q/pre", "q/post", "k/pre", "k/post"])
def test_survival_curves_are_the_quantiles_of_the_paired_tokens(tiny, side):
    """Oracle: all q and k gathered whole, the paired tokens cut out by hand, sorted."""
    loaded = tiny()
    found = diagnose.run(loaded, Setting(YARN, INT4, diagnosis=SPEC), TEXT)
    plan = diagnose.plan(loaded, Setting(YARN, INT4, diagnosis=SPEC), TEXT)
    paired = SPEC.paired_tokens
    long = gathered(loaded, YARN, plan.ids[None], 128, 128)
    short = gathered(loaded, YARN, plan.short_ids, 32, 32)
    name, where = side.split("/")
    curves, heads = found.survival[side], {"q": 2, "k": 1}[name]  # heads per KV head
    for layer, kv, band in ((0, 0, 0), (1, 1, 3)):
        pairs = range(found.bands[band].first_pair, found.bands[band].last_pair + 1)
        channels = [*pairs, *(p + 8 for p in pairs)]
        group = slice(kv * heads, (kv + 1) * heads)
        cut = {
            "long": [long[name, where, layer, 0][group, end - paired : end] for end in plan.ends],
            "short": [short[name, where, layer, row][group, -paired:] for row in range(len(plan.ends))],
        }
        for at, windows_of in cut.items():
            values = torch.cat([w[..., channels].abs().flatten() for w in windows_of]).double().sort().values
            n = len(values)
            for share, value in zip(curves.share, getattr(curves, at)[layer][kv][band], strict=True):
                if share * n < 1:
                    assert value is None
                    continue
                exact = float(values[math.ceil(round((1 - share) * n, 6)) - 1])
                assert value == pytest.approx(exact, rel=curves.body_bound + 5e-4)  # 4 digits are kept


def random_scales(loaded, spec, seed=0, mode="symmetric"):
    geo = loaded.geometry
    bands = partition(native_inv_freq(loaded), geo.original_context, spec.bands)
    g = 2.0 ** torch.empty(geo.n_layers, geo.n_kv_heads, len(bands), dtype=torch.float64).uniform_(
        -2, 2, generator=torch.Generator().manual_seed(seed)
    )
    return Scales(mode, "kv_head", bands, g)


def test_symmetric_scales_leave_the_reference_logits_and_shrink_k_by_exactly_g(tiny):
    loaded = tiny("qwen2", dtype=torch.float64)
    scales = random_scales(loaded, SPEC)
    plain = diagnose.run(loaded, Setting(YARN, QuantSpec(), diagnosis=SPEC), TEXT)
    tuned = diagnose.run(loaded, Setting(YARN, QuantSpec(), diagnosis=SPEC), TEXT, scales=scales)
    assert (plain.scales_mode, tuned.scales_mode) == (None, "symmetric")
    assert tuned.logit_noise is None
    # every logit's part by pair, and so every logit, is what it was
    assert tuned.pairs.logit_weighted_pressure == pytest.approx(plain.pairs.logit_weighted_pressure, rel=1e-9)
    for side in ("q/pre", "q/post", "k/pre", "k/post"):
        factor = scales.g if side[0] == "q" else 1 / scales.g
        for context in ("long", "short"):
            before, after = (torch.tensor(getattr(d.tails[side], context)) for d in (plain, tuned))
            assert torch.allclose(after.double(), before.double() * factor, rtol=1e-6)  # tails are kept in float32
        for name in ("ratio", "low", "high", "native"):  # ratios don't see a scale
            before, after = (torch.tensor(getattr(d.tails[side], name)) for d in (plain, tuned))
            assert torch.allclose(after, before, rtol=1e-5)


def test_maps_of_tied_pairs_are_left_out_of_the_native_pass_alone(tiny):
    """Ratios over native RoPE see the maps in the long context and not below; without the switch they were refused."""
    loaded = tiny("llama", dtype=torch.float64)
    pairs, kv = loaded.geometry.n_pairs, (loaded.geometry.n_layers, loaded.geometry.n_kv_heads)
    rope = replace(YARN, tie=(Tie(pairs - 2, pairs - 1, 0.0),))
    (group,) = groups_of(loaded.geometry, rope)
    turn, _ = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    bare = replace(random_scales(loaded, SPEC), angles=torch.zeros(*kv, pairs, dtype=torch.float64))
    mixed = replace(bare, groups=(group,), maps=(turn.expand(*kv, 4, 4).contiguous(),))
    setting = Setting(rope, QuantSpec(), diagnosis=SPEC)
    plain, tuned = (diagnose.run(loaded, setting, TEXT, scales=one) for one in (bare, mixed))
    for side in ("k/pre", "q/pre"):
        # native = long / short under native RoPE, so that long / native is the native tail of either diagnosis
        native = [torch.tensor(d.tails[side].long) / torch.tensor(d.tails[side].native) for d in (plain, tuned)]
        assert torch.allclose(*native, rtol=1e-5)
        assert not torch.allclose(*(torch.tensor(d.tails[side].long) for d in (plain, tuned)), rtol=1e-2)


def test_symmetric_scales_are_compared_with_the_same_reference(tiny):
    """A quantizer with one scale per channel commutes with them: the noise must be the very same."""
    loaded = tiny(dtype=torch.float64)
    quant = QuantSpec(k=QuantizerSpec(4, scale="channel", group_size=32))
    plain = diagnose.run(loaded, Setting(YARN, quant, diagnosis=SPEC), TEXT)
    tuned = diagnose.run(loaded, Setting(YARN, quant, diagnosis=SPEC), TEXT, scales=random_scales(loaded, SPEC))
    for name in ("rms", "attention_kl", "rms_by_distance"):
        before, after = (getattr(d.logit_noise, name) for d in (plain, tuned))
        assert after == pytest.approx(before, rel=1e-4)
    assert tuned.hidden.sqnr_db[1] == pytest.approx(plain.hidden.sqnr_db[1], abs=1e-3)


def test_shared_scales_have_a_reference_of_their_own(tiny):
    loaded = tiny(dtype=torch.float64)
    scales = random_scales(loaded, SPEC, mode="shared")
    found = diagnose.run(loaded, Setting(YARN, INT4, diagnosis=SPEC), TEXT, scales=scales)
    assert found.scales_mode == "shared"
    again = diagnose.run(loaded, Setting(YARN, INT4, diagnosis=SPEC), TEXT)
    assert found.pairs.logit_weighted_pressure[1] != pytest.approx(again.pairs.logit_weighted_pressure[1], rel=0.01)


def test_scales_repair_a_planted_band_and_leave_the_weights_bit_for_bit(planted):
    case = planted(layer=1, kv_head=0, band=2, factor=32.0)
    before = {name: p.detach().clone() for name, p in case.loaded.model.named_parameters()}
    scales = identity(2, 2, case.bands)
    scales.g[case.layer, case.kv_head, case.band] = case.factor
    sick = diagnose.run(case.loaded, Setting(YARN, INT4, diagnosis=SPEC), TEXT)
    cured = diagnose.run(case.loaded, Setting(YARN, INT4, diagnosis=SPEC), TEXT, scales=scales)
    healthy = diagnose.run(case.plain, Setting(YARN, INT4, diagnosis=SPEC), TEXT)
    assert cured.logit_noise.rms == pytest.approx(healthy.logit_noise.rms, rel=1e-4)  # powers of two: the same model
    assert max(sick.logit_noise.rms) > 2 * max(cured.logit_noise.rms)
    for now, then in zip(cured.hidden.sqnr_db, healthy.hidden.sqnr_db, strict=True):  # the quantized pass has them too
        assert now == pytest.approx(then, abs=0.01)
    assert all(torch.equal(p, before[name]) for name, p in case.loaded.model.named_parameters())
    assert case.loaded.applied is None

    def stop(step):
        raise Cancelled("diagnose")

    with pytest.raises(Cancelled):
        diagnose.run(case.loaded, Setting(YARN, INT4, diagnosis=SPEC), TEXT, on_step=stop, scales=scales)
    assert all(torch.equal(p, before[name]) for name, p in case.loaded.model.named_parameters())


def test_scales_of_another_model_are_refused(tiny):
    with pytest.raises(BadScales, match="this model has"):
        diagnose.run(tiny(layers=3), Setting(YARN, INT4, diagnosis=SPEC), TEXT, scales=random_scales(tiny(), SPEC))


@pytest.mark.parametrize("name", ["by_layer", "kl_by_layer", "by_band_position", "by_band_distance"])
def test_noise_taken_apart_adds_up_to_the_whole(tiny, name):
    """Layers pool to the curves; a quantizer that hits one band alone leaves the others silent."""
    found = diagnose.run(tiny(), Setting(YARN, INT4, diagnosis=SPEC), TEXT).logit_noise
    table = torch.tensor(getattr(found, name))
    if name == "by_layer":
        assert table.square().mean(0).sqrt().tolist() == pytest.approx(found.rms)
    elif name == "kl_by_layer":
        assert table.mean(0).tolist() == pytest.approx(found.attention_kl)
    elif name == "by_band_position":  # pooled over rows it is the map pooled over layers
        by_band = torch.tensor(found.by_band).square().mean(0).sqrt()
        assert table.square().mean(1).sqrt().tolist() == pytest.approx(by_band.tolist(), rel=1e-5)
    else:
        assert table.shape == (4, len(found.distance))
        # parts of bands are nearly uncorrelated: their squares add up to the whole's within a quarter
        whole = torch.tensor(found.rms_by_distance)
        assert table.square().sum(0).sqrt().tolist() == pytest.approx(whole.tolist(), rel=0.25)


def test_cancel_restores_the_model(tiny):
    loaded = tiny()
    before = loaded.model.config._attn_implementation, loaded.model.model.rotary_emb.inv_freq.clone()

    def cancel(step):
        raise Cancelled("diagnose")

    with pytest.raises(Cancelled):
        diagnose.run(loaded, Setting(YARN, INT4, diagnosis=SPEC), TEXT, on_step=cancel)
    assert loaded.model.config._attn_implementation == before[0]
    assert torch.equal(loaded.model.model.rotary_emb.inv_freq, before[1])


def test_windows_that_do_not_fit_are_one_line(tiny):
    with pytest.raises(BadText, match="longest document has 900 tokens, one window needs 4000"):
        diagnose.run(tiny(), Setting(YARN, INT4, diagnosis=DiagnosisSpec(length=4000)), TEXT)
    with pytest.raises(BadSpec, match="short windows of 100 tokens exceed the native window 64"):
        diagnose.run(tiny(), Setting(YARN, INT4, diagnosis=DiagnosisSpec(length=128, short_length=100)), TEXT)
    for short, length in ((48, 48), (48, 63)):
        with pytest.raises(BadSpec, match=rf"{length} tokens leave no room for two .* of 48 .* at least 64 or shorter"):
            diagnose.run(tiny(), Setting(YARN, INT4, diagnosis=DiagnosisSpec(length=length, short_length=short)), TEXT)
    for paired in (True, False):
        with pytest.raises(BadSpec, match=r"one short window gives no interval.*at least 2 short windows"):
            diagnose.run(
                tiny(),
                Setting(YARN, INT4, diagnosis=DiagnosisSpec(length=128, short_length=32, windows=1, paired=paired)),
                TEXT,
            )


@pytest.mark.parametrize("length", [32, 64, 128, 256])
def test_every_length_that_the_pages_offer_has_two_windows_that_are_not_the_prefix(demo, length):
    """With what a new setting asks: the demo's at 128 tokens compared the prefix with itself."""
    setting = default_setting(demo, length=length)
    plan = diagnose.plan(demo, setting, split("calibration"))
    assert len(plan.ends) >= 2
    opening = plan.ids[: plan.short_length]
    assert not any(torch.equal(row, opening) for row in plan.short_ids)
    for end, row in zip(plan.ends, plan.short_ids, strict=True):
        assert row[-plan.spec.paired_tokens :].tolist() == plan.ids[end - plan.spec.paired_tokens : end].tolist()
