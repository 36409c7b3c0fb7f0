"""The search on models with a planted band: it is found, never sold when it is noise, and nothing is left behind."""

import threading

import pytest
import torch

from qroar_core.errors import BadSpec, Cancelled
from qroar_core.evaluation import run as evaluate
from qroar_core.interpolations.bands import band_of_channel, partition
from qroar_core.interpolations.frequencies import native_inv_freq
from qroar_core.maths.attention_error import ErrorSetup
from qroar_core.models.stream import Condition, open_stream
from qroar_core.models.text import windows
from qroar_core.scale_search import run as search
from qroar_core.scale_search.cached import CachedObjective
from qroar_core.scale_search.guard import WindowScorer
from qroar_core.scale_search.methods import gradient
from qroar_core.scale_search.objectives.full import FullObjective
from qroar_core.setting import Setting
from qroar_core.specs import BandSpec, EvaluationSpec, QuantizerSpec, QuantSpec, RopeSpec
from qroar_core.specs import WeightQuantSpec as Weights
from qroar_core.transforms.scales import Scales
from tests.scale_search.searching import BAND, INT4, METHODS, TEXTS, asked, plant, run


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


@pytest.mark.parametrize("method", METHODS)
def test_a_model_without_anything_to_repair_keeps_identity(tiny, method):
    out = run(tiny(), asked(method=method), QuantSpec(k=QuantizerSpec(8)))
    assert out.kept.is_identity
    assert out.report.chosen == "identity"
    assert out.report.reason.startswith("no significant gain: keep identity")


NO_OPS = {
    "weights per channel": (QuantSpec(weights=Weights(4)), "weights have a scale per output row"),
    "weights in groups": (QuantSpec(weights=Weights(4, "group", 16)), "weights have a scale per output row"),
    "kivi": (
        QuantSpec(k=QuantizerSpec(2, scale="channel", group_size=16), v=QuantizerSpec(2)),
        "every channel has its own scale",
    ),
    "nothing": (QuantSpec(), "nothing is quantized"),
    "only v": (QuantSpec(v=QuantizerSpec(4)), "only V is quantized"),
}


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
    assert out.report.method == "gradient, on full text"


@pytest.mark.slow
def test_on_a_trained_model_the_repair_is_proven_and_both_objectives_agree(demo):
    from qroar_core.models.capture import capture
    from qroar_core.models.patch import replaced_parameters, scaled_parameters
    from qroar_core.models.text import split

    texts = {name: split(name) for name in ("calibration", "development", "heldout")}
    bands = partition(native_inv_freq(demo), 256, BandSpec(4))
    g = torch.ones(4, 2, 4, dtype=torch.float64)
    g[:, :, BAND] = 1 / 16  # k of the band times 16, q divided by it
    spec = asked(length=128, guard_tau=0.01, steps=30)
    with replaced_parameters(demo.model, scaled_parameters(demo, Scales("symmetric", "kv_head", bands, g))):
        out = search.run(demo, Setting(RopeSpec(), INT4, search=spec), texts)
        ids = windows(demo.tokenizer, texts["calibration"], 128, 2).ids
        taken = capture(demo, RopeSpec(), ids, 16)
        geo = demo.geometry
        band = band_of_channel(bands, geo.head_dim, geo.rotary_dim, geo.pairing)
        setup = ErrorSetup(INT4, "symmetric", band, taken.scaling, geo.pairing, taken.cos, taken.sin, "rows")
        cached = CachedObjective(taken, setup, "kv_head")
        full = FullObjective(demo, RopeSpec(), INT4, spec, bands, ids, (32, 128))
        repair = torch.zeros(4, 2, 4)
        repair[..., BAND] = 4
        ladder = [(cached.value(x), full.value(x)) for x in (0 * repair, repair / 2, repair)]
    assert out.report.chosen == "found"
    assert out.kept is out.found
    assert out.report.reason.startswith("significant gain: +")
    assert float(lead(out.found.g.log2()).min()) > 2
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

    ids = windows(loaded.tokenizer, TEXTS["heldout"], 64, 1).ids
    hot = shared_by(bands, 1.25)
    for scales in (None, hot):
        with open_stream(loaded, Condition(scales=scales), 64) as stream:
            list(stream.run(ids, (Keep(),)))
    assert torch.allclose(logits[1], 1.25**2 * logits[0], rtol=1e-4, atol=1e-4)
    spec = EvaluationSpec(lengths=(64,), windows=4, rotation=False)
    result = evaluate.run(loaded, Setting(RopeSpec(), INT4, evaluation=spec), hot, None, TEXTS["heldout"])
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
    scorer = WindowScorer(loaded, RopeSpec(), quant, lambda step: None)
    ids = windows(loaded.tokenizer, TEXTS["heldout"], 64, 4).ids
    g = torch.ones(2, 2, 4, dtype=torch.float64)
    g[0, 1], g[1, 0] = 4.0, 0.5
    bands = ((0, 1), (2, 3), (4, 5), (6, 7))
    assert scorer.nll(ids, Scales("symmetric", "kv_head", bands, g), "x") == scorer.nll(ids, None, "x")
    g[0, 1, 0] = 8.0
    assert scorer.nll(ids, Scales("symmetric", "kv_head", bands, g), "x") != scorer.nll(ids, None, "x")


STOPS = (
    "read the calibration text",
    "gradient step 3",
    "guard: identity",
    "guard: tuned",
    "gain: tuned",
    "sweep 1, band 1",
)


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
        search.run(loaded, Setting(RopeSpec("yarn", 2.0), INT4, search=spec), TEXTS, on_step=cancel)
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
def test_the_same_seed_finds_the_same_scales(tiny, method, monkeypatch):
    monkeypatch.setattr(gradient, "ROWS_A_STEP", 4)  # of 16, so that the draw matters
    loaded = plant(tiny(head_dim=32), [(1, 0)])
    spec = asked(method=method, steps=10, trials=10)
    first, again, other = (run(loaded, s) for s in (spec, spec, asked(method=method, steps=10, trials=10, seed=1)))
    assert torch.equal(first.found.g, again.found.g)
    assert first.report.history == again.report.history
    assert first.report.reason == again.report.reason
    assert first.report.history != other.report.history


@pytest.mark.parametrize("objective", ["cached", "full"])
@pytest.mark.parametrize("sampler", ["random", "grid", "tpe"])
def test_every_sampler_starts_at_identity_and_stays_at_or_below_it(tiny, sampler, objective):
    spec = asked(method="optuna", sampler=sampler, objective=objective, trials=6, grid_points=3)
    report = run(plant(tiny(head_dim=32), PLACES["model"]), spec).report
    assert report.history[0].label == "identity"
    assert report.history[0].objective == report.objective_identity
    assert report.objective_found <= report.objective_identity
    assert sum(c.label.startswith("trial") for c in report.history) == 6


ACTING = {
    "tensor": QuantSpec(k=QuantizerSpec(4, scale="tensor")),
    "before rope": QuantSpec(k=QuantizerSpec(4, before_rope=True)),
    "blocks across bands": QuantSpec(k=QuantizerSpec(4, scale="block", group_size=16)),
    "activations": QuantSpec(qk=QuantizerSpec(5)),
    "fp8": QuantSpec(k=QuantizerSpec(8, scale="tensor", levels="e4m3")),
}


@pytest.mark.parametrize("name", ACTING)
def test_quantizers_that_bands_share_are_repaired(tiny, name):
    out = run(plant(tiny(head_dim=32), PLACES["model"]), asked(), ACTING[name])
    assert out.report.verdict.acts == "yes"
    assert out.report.objective_found < (1.0 if name == "fp8" else 0.5)


def test_gradient_goes_well_below_where_it_starts(tiny):
    report = run(plant(tiny(head_dim=32), PLACES["model"]), asked(granularity="model")).report
    starts = [c.objective for c in report.history if c.step == 0]
    assert len(starts) == 3
    assert report.objective_found < 0.95 * min(starts)
