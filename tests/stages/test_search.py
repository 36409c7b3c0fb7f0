"""The search on models with a planted band: it is found, never sold when it is noise, and nothing is left behind."""

import threading

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qroar_core import diagnose, evaluate, search
from qroar_core.errors import BadSpec, Cancelled
from qroar_core.maths.rescale import Scales
from qroar_core.models.stream import Condition, open_stream
from qroar_core.models.text import Document
from qroar_core.searching.proof import Bench
from qroar_core.specs import BandSpec, DiagnosisSpec, EvaluationSpec, QuantizerSpec, QuantSpec, RopeSpec, SearchSpec
from qroar_core.specs import WeightQuantSpec as Weights

INT4 = QuantSpec(k=QuantizerSpec(4))
BAND = 2
METHODS = ("gradient", "coordinate", "optuna")


def document(a, b):
    return [Document(f"{a}", "".join(chr(97 + (i * i * a + b * i + i // 5) % 26) for i in range(900)))]


TEXTS = {"calibration": document(1, 3), "development": document(2, 7), "heldout": document(3, 5)}


def asked(**options):
    """Small and quick, with a guard that lets everything pass."""
    small = {"bands": BandSpec(4), "length": 64, "windows": 2, "query_rows": 16, "kappa0": 6.0, "guard_tau": 100.0}
    return SearchSpec(**(small | options))


def run(loaded, spec, quant=INT4, texts=TEXTS, **more):
    return search.run(loaded, RopeSpec(), quant, spec, texts, **more)


def plant(loaded, places, factor=32.0):
    """K of `BAND` times `factor`, q divided by it, in (layer, kv head) `places`; repaired by symmetric g = factor."""
    geo = loaded.geometry
    pairs = torch.arange(BAND * geo.n_pairs // 4, (BAND + 1) * geo.n_pairs // 4)
    channels = torch.cat((pairs, pairs + geo.n_pairs))
    for layer, head in places:
        attention = loaded.model.model.layers[layer].self_attn
        attention.k_proj.weight.data[head * geo.head_dim + channels] *= factor
        for j in range(geo.queries_per_kv):
            attention.q_proj.weight.data[(head * geo.queries_per_kv + j) * geo.head_dim + channels] /= factor
    return loaded


def lead(log2_g):
    """How far log2 g of the planted band stands above the mean of the others."""
    others = [b for b in range(4) if b != BAND]
    return log2_g[..., BAND] - log2_g[..., others].mean(-1)


PLACES = {"kv_head": [(1, 0)], "layer": [(1, 0), (1, 1)], "model": [(0, 0), (0, 1), (1, 0), (1, 1)]}


@pytest.mark.parametrize("granularity", PLACES)
@pytest.mark.parametrize("method", METHODS)
def test_the_planted_band_is_found(tiny, method, granularity):
    loaded = plant(tiny(head_dim=32), PLACES[granularity])
    out = run(loaded, asked(method=method, granularity=granularity))
    report, log2_g = out.report, out.found.g.log2()
    share = len(PLACES[granularity]) / 4  # of the heads have something to repair
    assert report.objective_identity == 1.0
    assert 1 - report.objective_found > 0.8 * share
    for layer, head in PLACES[granularity]:
        assert 2.5 < float(lead(log2_g[layer, head])) < 7.5  # planted: 5 octaves
    for layer in range(2):
        assert torch.equal(log2_g[layer, 0], log2_g[layer, 1]) or granularity == "kv_head"
    assert torch.equal(log2_g[0], log2_g[1]) or granularity != "model"
    assert report.history[0].label == "identity"
    assert report.history[0].objective == 1.0
    assert [c.best for c in report.history] == sorted((c.best for c in report.history), reverse=True)
    assert report.trials == len(report.history)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(4))
def test_never_worse_than_identity_on_its_objective(tiny, method, seed):
    granularity = ("model", "layer", "kv_head", "layer")[seed]
    spec = asked(method=method, granularity=granularity, seed=seed, steps=3, trials=3, grid_points=3)
    out = run(tiny(seed=seed), spec, QuantSpec(k=QuantizerSpec(3 + seed)))
    assert out.report.objective_found <= 1.0
    assert out.report.history[0].objective == 1.0


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(METHODS), granularity=st.sampled_from(["model", "layer", "kv_head"]),
    mode=st.sampled_from(["symmetric", "shared"]), objective=st.sampled_from(["cached", "full"]),
    kappa0=st.floats(0.05, 3), eta=st.floats(0, 2), inflation=st.lists(st.floats(0.25, 8), min_size=8, max_size=8),
)  # fmt: skip
def test_found_scales_stay_within_the_reported_bounds(diagnosed, method, granularity, mode, objective, kappa0, eta, inflation):
    loaded, diagnosis = diagnosed
    table = [inflation[:4], inflation[4:]]
    spec = asked(method=method, granularity=granularity, mode=mode, objective=objective, kappa0=kappa0, eta=eta,
                 steps=6, trials=6, grid_points=3)  # fmt: skip
    out = search.run(loaded, RopeSpec("yarn", 2.0), INT4, spec, TEXTS, inflated(diagnosis, table, table))
    bounds = torch.tensor(out.report.bounds, dtype=torch.float64)  # (layers, bands, 2)
    log2_g = out.found.g.log2()
    assert bool((log2_g >= bounds[:, None, :, 0] - 1e-6).all())
    assert bool((log2_g <= bounds[:, None, :, 1] + 1e-6).all())
    if granularity == "model":
        assert bool((log2_g == log2_g[0, 0]).all())


@pytest.fixture
def diagnosed(tiny):
    loaded = plant(tiny(), [(1, 0)])
    spec = DiagnosisSpec(length=128, short_length=32, paired_tokens=16, windows=2, eps=0.02, bands=BandSpec(4))
    return loaded, diagnose.run(loaded, RopeSpec("yarn", 2.0), INT4, spec, TEXTS["calibration"])


def inflated(diagnosis, q, k):
    return diagnosis.model_copy(update={"tail_inflation": {"post": {"q": q, "k": k}}})


ONES = [[1.0] * 4] * 2


@pytest.mark.parametrize("mode", ["symmetric", "shared"])
def test_inflated_tails_widen_the_side_that_shrinks_them(diagnosed, mode):
    loaded, diagnosis = diagnosed
    q, k = [[1, 1, 8, 1], [1, 1, 1, 1]], [[1, 4, 1, 1], [1, 1, 1, 0.5]]
    spec = asked(mode=mode, steps=1, tau_tail=0.5)
    flat, wide = (
        torch.tensor(
            search.run(loaded, RopeSpec("yarn", 2.0), INT4, spec, TEXTS, inflated(diagnosis, *tails)).report.bounds
        )
        for tails in ((ONES, ONES), (q, k))
    )
    wider = torch.zeros(2, 4, 2)
    if mode == "symmetric":  # g > 1 divides k; q is no part of it
        wider[0, 1, 1] = 0.5 * 2
    else:  # g < 1 shrinks both
        wider[0, 1, 0], wider[0, 2, 0] = -0.5 * 2, -0.5 * 3
    assert torch.allclose(wide - flat, wider, atol=1e-6)
    without = run(loaded, spec).report.bounds  # no interpolation: no pressure, no narrowing
    assert without == [[(-6.0, 6.0)] * 4] * 2


def test_a_diagnosis_with_other_bands_widens_nothing(diagnosed):
    loaded, diagnosis = diagnosed
    other = inflated(diagnosis, [[8.0] * 4] * 2, [[8.0] * 4] * 2)
    spec = asked(bands=BandSpec(2), steps=1)
    assert run(loaded, spec, diagnosis=other).report.bounds == run(loaded, spec).report.bounds


def test_one_scale_for_the_model_keeps_to_the_narrowest_layer(diagnosed):
    loaded, diagnosis = diagnosed
    tails = [[8.0, 8.0, 2.0, 2.0], [1.0, 4.0, 8.0, 2.0]]
    out = run(loaded, asked(granularity="model", steps=1), diagnosis=inflated(diagnosis, tails, tails))
    assert [high for _, high in out.report.bounds[0]] == [6, 8, 7, 7]
    assert out.report.bounds[0] == out.report.bounds[1]


@pytest.mark.parametrize("method", METHODS)
def test_a_model_without_anything_to_repair_keeps_identity(tiny, method):
    out = run(tiny(), asked(method=method), QuantSpec(k=QuantizerSpec(8)))
    assert out.kept.is_identity
    assert out.report.chosen == "identity"
    assert out.report.reason.startswith("no significant gain: keep identity")


NO_OPS = {
    "weights per channel": (QuantSpec(weights=Weights(4)), "weights have a scale per output row"),
    "weights in groups": (QuantSpec(weights=Weights(4, "group", 16)), "weights have a scale per output row"),
    "kivi": (QuantSpec(k=QuantizerSpec(2, scale="channel", group_size=16), v=QuantizerSpec(2)),
             "every channel has its own scale"),
    "nothing": (QuantSpec(), "nothing is quantized"),
    "only v": (QuantSpec(v=QuantizerSpec(4)), "only V is quantized"),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_OPS)
@pytest.mark.parametrize("objective", ["cached", "full"])
def test_where_scales_cannot_act_nothing_is_read(tiny, name, objective):
    quant, why = NO_OPS[name]

    def silent(step):
        raise AssertionError(f"worked: {step}")

    out = run(tiny(), asked(objective=objective), quant, texts={}, on_step=silent)
    assert all(s.is_identity for s in (out.found, out.kept, out.smooth, out.mad))
    assert out.report.verdict.acts == "no"
    assert why in out.report.verdict.reason
    assert (out.report.trials, out.report.history, out.report.chosen) == (0, [], "identity")
    assert out.report.reason == "no significant gain: keep identity, scales cannot act here"


def test_weights_alone_need_the_full_objective(tiny):
    loaded, quant = plant(tiny(), PLACES["model"]), QuantSpec(weights=Weights(4, scale="tensor"))
    with pytest.raises(BadSpec, match="--objective full") as caught:
        run(loaded, asked(), quant)
    assert "\n" not in str(caught.value)
    out = run(loaded, asked(objective="full", trials=8), quant)
    assert out.report.history[0].label == "identity"
    assert out.report.objective_found <= out.report.objective_identity
    assert out.report.objective_identity == out.report.history[0].objective
    assert len(out.report.history) == 9
    assert out.report.method == "gradient on full text"


def known(monkeypatch, **nll):
    """Bench.nll gives out these numbers: guard(share of the way), proof_before, proof_after; keeps what was asked."""
    calls = []

    def fake(self, ids, scales, what):
        calls.append((what, tuple(ids.shape), scales))
        return nll[what.replace(": ", "_")](scales)

    monkeypatch.setattr(Bench, "nll", fake)
    return calls


def linear_cost(found, per_octave):
    """NLL of four windows rising with the largest |log2 g|, plus window to window spread that cancels."""
    spread = [3.0, 5.0, 1.0, 4.0]
    return lambda scales: [x + per_octave * float(scales.g.log2().abs().max()) for x in spread] if scales else spread


ONE_BAND = Scales("symmetric", "kv_head", ((0, 1), (2, 3)), torch.tensor([[[1.0, 16.0]]], dtype=torch.float64))
GUARDED = {  # cost per octave of 4 octaves, allowed 0.1 -> octaves left, sentence
    0.02: (4.0, "costs +0.0800 nats at 16 tokens, allowed 0.1"),
    -0.5: (4.0, "costs -2.0000 nats at 16 tokens, allowed 0.1"),
    0.04: (2.0, "halved toward identity, costs +0.0800 nats at 16 tokens, allowed 0.1"),
    0.08: (1.0, "quartered toward identity, costs +0.0800 nats at 16 tokens, allowed 0.1"),
    0.2: (None, "costs +0.2000 nats at 16 tokens even quartered, allowed 0.1: rejected"),
}


@pytest.mark.parametrize("per_octave", GUARDED)
def test_guard_halves_until_it_is_cheap_enough(monkeypatch, per_octave):
    from qroar_core.searching.proof import guarded

    octaves, sentence = GUARDED[per_octave]
    cost = linear_cost(ONE_BAND, per_octave)
    known(monkeypatch, guard_identity=cost, guard_tuned=cost)
    kept, said = guarded(Bench(None, RopeSpec(), INT4, None), ONE_BAND, torch.zeros(4, 16, dtype=torch.int64), 0.1)
    assert said == sentence
    if octaves is None:
        assert kept is None
    else:
        assert kept.g.log2().tolist() == [[[0.0, octaves]]]
        assert (kept.mode, kept.granularity, kept.bands) == (ONE_BAND.mode, ONE_BAND.granularity, ONE_BAND.bands)


PROOFS = {  # NLL before minus after on 8 windows -> kept; t(0.975, 7) = 2.3646
    "clear gain": ([0.2, 0.3, 0.2, 0.3, 0.2, 0.3, 0.2, 0.3], "+0.2500 nats [+0.2053, +0.2947]", True),
    "tiny but steady": ([0.001] * 8, "+0.0010 nats [+0.0010, +0.0010]", True),
    "large but unsteady": ([2.0, -1.0, 2.0, -1.0, 2.0, -1.0, 2.0, -1.0], "+0.5000 nats [-0.8406, +1.8406]", False),
    "clear loss": ([-0.2, -0.3, -0.2, -0.3, -0.2, -0.3, -0.2, -0.3], "-0.2500 nats [-0.2947, -0.2053]", False),
    "nothing": ([0.0] * 8, "+0.0000 nats [+0.0000, +0.0000]", False),
}


@pytest.mark.parametrize("name", PROOFS)
def test_found_is_kept_only_where_heldout_text_proves_it(monkeypatch, tiny, name):
    gains, measured, kept = PROOFS[name]
    spread = [3.0, 5.0, 1.0, 4.0, 2.0, 6.0, 3.5, 4.5]
    calls = known(
        monkeypatch, guard_identity=lambda s: spread[:4], guard_tuned=lambda s: spread[:4],
        proof_identity=lambda s: spread, proof_tuned=lambda s: [x - d for x, d in zip(spread, gains, strict=True)],
    )  # fmt: skip
    out = run(plant(tiny(head_dim=32), [(1, 0)]), asked())
    assert not out.found.is_identity
    assert (out.kept is out.found) == kept
    assert out.kept.is_identity != kept
    assert out.report.chosen == ("found" if kept else "identity")
    assert measured in out.report.reason
    assert out.report.reason.startswith("significant gain" if kept else "no significant gain: keep identity (")
    assert [(what, shape) for what, shape, _ in calls] == [
        ("guard: identity", (4, 16)), ("guard: tuned", (4, 16)), ("proof: identity", (8, 64)), ("proof: tuned", (8, 64))
    ]  # fmt: skip
    assert calls[3][2] is out.found


def test_what_the_guard_rejects_is_never_proven(monkeypatch, tiny):
    calls = known(monkeypatch, guard_identity=lambda s: [1.0] * 4, guard_tuned=lambda s: [2.0] * 4)
    out = run(plant(tiny(head_dim=32), [(1, 0)]), asked(guard_tau=0.5))
    assert out.found.is_identity
    assert out.kept.is_identity
    assert out.report.guard.endswith("rejected")
    assert len(calls) == 4
    assert "the guard rejected it" in out.report.reason


def test_the_three_splits_are_read_for_what_they_are_for(monkeypatch, tiny):
    seen = {}
    original = search.windows

    def spy(tokenizer, documents, length, count, seed=0):
        seen.setdefault(documents[0].name, []).append((count, length))
        return original(tokenizer, documents, length, count, seed)

    monkeypatch.setattr(search, "windows", spy)
    run(plant(tiny(head_dim=32), [(1, 0)]), asked())
    assert seen == {"1": [(2, 64)], "2": [(4, 16)], "3": [(8, 64)]}


def test_on_a_trained_model_the_repair_is_proven_and_both_objectives_agree(demo):
    from qroar_core.models.capture import capture
    from qroar_core.models.patch import replaced, scaled_parameters
    from qroar_core.models.text import split

    texts = {name: split(name) for name in ("calibration", "development", "heldout")}
    quant = QuantSpec(k=QuantizerSpec(3))
    bands = search.partition(search.native_inv_freq(demo), 256, BandSpec(4))
    g = torch.ones(4, 2, 4, dtype=torch.float64)
    g[:, :, BAND] = 1 / 64  # k of the band times 64, q divided by it
    spec = asked(length=128, guard_tau=0.01, steps=30)
    with replaced(demo.model, scaled_parameters(demo, Scales("symmetric", "kv_head", bands, g))):
        out = search.run(demo, RopeSpec(), quant, spec, texts)
        ids = search.windows(demo.tokenizer, texts["calibration"], 128, 2).ids
        taken = capture(demo, RopeSpec(), ids, 16)
        geo = demo.geometry
        band = search.band_of_channel(bands, geo.head_dim, geo.rotary_dim, geo.pairing)
        setup = search.Setup(quant, "symmetric", band, taken.scaling, geo.pairing, taken.cos, taken.sin)
        cached = search.CachedObjective(taken, setup, "kv_head")
        full = search.FullObjective(demo, RopeSpec(), quant, spec, bands, ids, (32, 128))
        repair = torch.zeros(4, 2, 4)
        repair[..., BAND] = 6
        ladder = [(cached.value(x), full.value(x)) for x in (0 * repair, repair / 2, repair)]
    assert out.report.chosen == "found"
    assert out.kept is out.found
    assert out.report.reason.startswith("significant gain: +")
    assert float(lead(out.found.g.log2()).min()) > 3
    for before, after in zip(ladder, ladder[1:], strict=False):
        assert after[0] < before[0]
        assert after[1] < before[1]


def shared_by(case, factor):
    g = torch.full((2, 2, 4), factor, dtype=torch.float64)
    return Scales("shared", "kv_head", case, g)


def test_shared_scales_are_a_temperature_of_the_reference(tiny):
    loaded = tiny()
    bands = ((0, 1), (2, 3), (4, 5), (6, 7))
    logits = []

    class Keep:
        def on_attention(self, tap):
            if tap.layer == 0:
                logits.append(tap.q @ tap.k.repeat_interleave(2, 0).mT)

        def on_layer(self, *args):
            pass

    ids = search.windows(loaded.tokenizer, TEXTS["heldout"], 64, 1).ids
    hot = shared_by(bands, 1.25)
    for scales in (None, hot):
        with open_stream(loaded, Condition(scales=scales), 64) as stream:
            list(stream.run(ids, (Keep(),)))
    assert torch.allclose(logits[1], 1.25**2 * logits[0], rtol=1e-4, atol=1e-4)
    spec = EvaluationSpec(lengths=(64,), windows=4, rotation=False)
    result = evaluate.run(loaded, RopeSpec(), INT4, hot, None, spec, TEXTS["heldout"])
    nll = {r.scales: r.nll for r in result.rows if r.model == "reference"}
    assert abs(result.attribution.retuning) > 1e-3
    assert result.attribution.retuning == pytest.approx(nll["identity"] - nll["tuned"], abs=1e-6)
    total = result.attribution.retuning + result.attribution.quantization_repair
    assert total == pytest.approx(result.gain.delta_nll, abs=1e-6)


def test_shared_mode_without_a_shared_scale_is_called_a_temperature(tiny):
    quant = QuantSpec(k=QuantizerSpec(4, scale="channel", group_size=16))
    out = run(tiny(), asked(mode="shared", steps=2), quant)
    assert out.report.verdict.acts == "temperature"
    assert out.smooth.is_identity  # K's range says nothing about a temperature
    assert out.mad.is_identity


@pytest.mark.parametrize("quant", [INT4, QuantSpec(qk=QuantizerSpec(8))])
def test_a_factor_common_to_a_head_changes_nothing(tiny, quant):
    loaded = tiny()
    bench = Bench(loaded, RopeSpec(), quant, lambda step: None)
    ids = search.windows(loaded.tokenizer, TEXTS["heldout"], 64, 4).ids
    g = torch.ones(2, 2, 4, dtype=torch.float64)
    g[0, 1], g[1, 0] = 4.0, 0.5
    bands = ((0, 1), (2, 3), (4, 5), (6, 7))
    assert bench.nll(ids, Scales("symmetric", "kv_head", bands, g), "x") == bench.nll(ids, None, "x")
    g[0, 1, 0] = 8.0
    assert bench.nll(ids, Scales("symmetric", "kv_head", bands, g), "x") != bench.nll(ids, None, "x")


STOPS = ("read the calibration text", "gradient step 3", "guard: identity", "guard: tuned", "proof: tuned", "sweep 1, band 1")


@pytest.mark.parametrize("stop", STOPS)
def test_cancel_leaves_the_model_bit_for_bit(tiny, stop):
    loaded = plant(tiny(head_dim=32), [(1, 0)])
    state = {name: p.clone() for name, p in loaded.model.state_dict().items()}
    pointers = {name: p.data_ptr() for name, p in loaded.model.named_parameters()}
    inv_freq, attention = loaded.model.model.rotary_emb.inv_freq.clone(), loaded.model.config._attn_implementation
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in loaded.model.modules())
    reached = []

    def cancel(step):
        if step.what.startswith(stop):
            reached.append(step)
            raise Cancelled("search")

    objective = "full" if stop.startswith("sweep") else "cached"
    spec = asked(objective=objective, trials=20, grid_points=3, steps=5)
    with pytest.raises(Cancelled):
        search.run(loaded, RopeSpec("yarn", 2.0), INT4, spec, TEXTS, on_step=cancel)
    assert len(reached) == 1
    assert all(torch.equal(p, state[name]) for name, p in loaded.model.state_dict().items())
    assert {name: p.data_ptr() for name, p in loaded.model.named_parameters()} == pointers
    assert torch.equal(loaded.model.model.rotary_emb.inv_freq, inv_freq)
    assert loaded.model.config._attn_implementation == attention
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in loaded.model.modules()) == hooks
    free = []
    other = threading.Thread(target=lambda: free.append(loaded.lock.acquire(blocking=False)))
    other.start()
    other.join()
    assert free == [True]


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_finds_the_same_scales(tiny, method):
    loaded = plant(tiny(head_dim=32), [(1, 0)])
    spec = asked(method=method, steps=10, trials=10)
    first, again, other = (run(loaded, s) for s in (spec, spec, asked(method=method, steps=10, trials=10, seed=1)))
    assert torch.equal(first.found.g, again.found.g)
    assert first.report.history == again.report.history
    assert first.report.reason == again.report.reason
    assert first.report.history != other.report.history
