"""The KL objective: against brute force and finite differences, better than where it starts, resumable, traceless."""

import pytest
import torch

from qroar_core.errors import BadSpec, Cancelled
from qroar_core.interpolations.bands import band_of_channel, partition
from qroar_core.interpolations.frequencies import native_inv_freq
from qroar_core.models import differentiable
from qroar_core.models.condition import Condition
from qroar_core.models.differentiable import open_trainable
from qroar_core.models.stream import open_stream
from qroar_core.models.text import SPLITS, split
from qroar_core.scale_search import run as search
from qroar_core.scale_search.objectives.kl import KLObjective
from qroar_core.setting import Setting
from qroar_core.specs import BandSpec, QuantizerSpec, QuantSpec, RopeSpec, SearchSpec, WeightQuantSpec
from qroar_core.transforms.scales import Scales
from tests.scale_search.cancelled import ROPE, stopped
from tests.scale_search.searching import INT4, TEXTS, asked, plant

QUANTS = {
    "k int4": INT4,
    "k and v in blocks": QuantSpec(k=QuantizerSpec(4, "block", group_size=8), v=QuantizerSpec(4)),
    "k before rope": QuantSpec(k=QuantizerSpec(4, before_rope=True)),
    "k rotated": QuantSpec(k=QuantizerSpec(3, rotation="hadamard")),
    "q and k": QuantSpec(qk=QuantizerSpec(8)),
    "weights and k": QuantSpec(weights=WeightQuantSpec(4), k=QuantizerSpec(4)),
}


def drawn(loaded, bands, mode="symmetric", spread=1.0, seed=5):
    geo = loaded.geometry
    generator = torch.Generator().manual_seed(seed)
    return spread * (2 * torch.rand(geo.n_layers, geo.n_kv_heads, len(bands), generator=generator) - 1)


def bands_of(loaded, count=4):
    return partition(native_inv_freq(loaded), loaded.geometry.original_context, BandSpec(count))


def channels(loaded, bands):
    geo = loaded.geometry
    return band_of_channel(bands, geo.head_dim, geo.rotary_dim, geo.pairing)


@pytest.mark.parametrize("mode", ["symmetric", "shared"])
@pytest.mark.parametrize("name", QUANTS)
def test_hidden_states_are_those_of_the_scaled_weights_in_the_stream(tiny, ids, name, mode):
    loaded, tokens, quant = tiny(dtype=torch.float64), ids(40), QUANTS[name]
    bands = bands_of(loaded)
    log2_g = drawn(loaded, bands).double()
    scales = Scales(mode, "kv_head", bands, log2_g.exp2())
    with open_stream(loaded, Condition(ROPE, quant, scales), 40) as stream:
        (piece,) = list(stream.run(tokens))
    with open_trainable(loaded, Condition(ROPE, quant), 40, channels(loaded, bands), mode) as model:
        mine = model.hidden(tokens, log2_g)
    assert float((mine - piece.hidden[0]).abs().max()) < 1e-9
    if quant.weights is None:  # and not those of other scales
        with open_trainable(loaded, Condition(ROPE, quant), 40, channels(loaded, bands), mode) as model:
            assert float((model.hidden(tokens, -log2_g) - piece.hidden[0]).abs().max()) > 1e-6


@pytest.mark.parametrize("mode", ["symmetric", "shared"])
@pytest.mark.parametrize("name", [name for name, quant in QUANTS.items() if quant.weights is None])
def test_turned_pairs_are_those_of_the_turned_weights_in_the_stream(tiny, ids, name, mode):
    loaded, tokens, quant = tiny(dtype=torch.float64), ids(40), QUANTS[name]
    bands, geo = bands_of(loaded), loaded.geometry
    log2_g = drawn(loaded, bands).double()
    generator = torch.Generator().manual_seed(9)
    angles = torch.randn(geo.n_layers, geo.n_kv_heads, geo.n_pairs, generator=generator, dtype=torch.float64)
    scales = Scales(mode, "kv_head", bands, log2_g.exp2(), angles)
    with open_stream(loaded, Condition(ROPE, quant, scales), 40) as stream:
        (piece,) = list(stream.run(tokens))
    with open_trainable(loaded, Condition(ROPE, quant), 40, channels(loaded, bands), mode) as model:
        mine = model.hidden(tokens, scales.point)
        other = model.hidden(tokens, log2_g)
    assert float((mine - piece.hidden[0]).abs().max()) < 1e-9
    assert float((other - piece.hidden[0]).abs().max()) > 1e-6


def objective(loaded, ids, quant, mode="symmetric", granularity="kv_head"):
    spec = asked(mode=mode, granularity=granularity)
    return KLObjective(loaded, Condition(ROPE, quant), spec, bands_of(loaded), torch.stack([ids(24), ids(24, seed=1)]))


def brute_kl(loaded, tokens, scales):
    """KL from the logits of two whole streams, in float64, by its definition."""
    logits = []
    for condition in (Condition(ROPE), Condition(ROPE, INT4, scales)):
        with open_stream(loaded, condition, len(tokens)) as stream:
            (piece,) = list(stream.run(tokens))
        logits.append(loaded.model.lm_head(piece.hidden[0, :-1]).double())
    p, q = (torch.softmax(x, -1) for x in logits)
    return float((p * (p / q).log()).sum(-1).mean())


def test_its_value_is_the_kl_by_its_definition(tiny, ids):
    loaded = tiny(dtype=torch.float64)
    found = objective(loaded, ids, INT4)
    log2_g = drawn(loaded, found.bands)
    scales = Scales("symmetric", "kv_head", found.bands, log2_g.double().exp2())
    wanted = [brute_kl(loaded, tokens, scales) for tokens in found.ids]
    assert found.value(log2_g) == pytest.approx(sum(wanted) / 2, rel=1e-5)
    assert abs(wanted[0] - wanted[1]) > 1e-3 * wanted[0]  # so that leaving one out would show


BLOCKS = {
    "k": QuantSpec(k=QuantizerSpec(3, residual=8)),
    "k by channel before rope": QuantSpec(k=QuantizerSpec(2, "channel", "affine", 8, before_rope=True, residual=16)),
    "v": QuantSpec(v=QuantizerSpec(3, residual=12)),
    "k and v apart": QuantSpec(k=QuantizerSpec(3, residual=8), v=QuantizerSpec(2, residual=12)),
    "k of blocks, v of tokens": QuantSpec(k=QuantizerSpec(3, residual=16), v=QuantizerSpec(3)),
    "k, then q and k": QuantSpec(k=QuantizerSpec(3, residual=8), qk=QuantizerSpec(5)),
    "k, v and weights": QuantSpec(WeightQuantSpec(4), QuantizerSpec(3, residual=8), QuantizerSpec(3, residual=16)),
    "the whole window exact": QuantSpec(k=QuantizerSpec(2, residual=40)),
}
KINDS = {"plain": {}, "sliding": {"family": "mistral", "sliding_window": 11}}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", BLOCKS)
def test_a_residual_cache_is_read_as_the_cache_run_token_by_token(tiny, ids, name, kind):
    loaded, tokens, quant = tiny(dtype=torch.float64, **KINDS[kind]), ids(40), BLOCKS[name]
    bands = bands_of(loaded)
    log2_g = torch.zeros_like(drawn(loaded, bands)) if quant.weights else drawn(loaded, bands).double()
    scales = Scales("symmetric", "kv_head", bands, log2_g.double().exp2())
    with open_stream(loaded, Condition(ROPE, quant, scales), 40) as stream:
        stream.begin()
        read = torch.cat([stream.feed(tokens[None, t : t + 1]).hidden[0] for t in range(40)])
    with open_trainable(loaded, Condition(ROPE, quant), 40, channels(loaded, bands), "symmetric") as model:
        mine = model.hidden(tokens, log2_g)
    assert float((mine - read).abs().max()) < 1e-9
    with open_trainable(loaded, Condition(ROPE), 40, channels(loaded, bands), "symmetric") as model:
        apart = (model.hidden(tokens, log2_g) - mine).abs().amax(1)
    rounds = not any((quant.weights, quant.qk)) and quant.block_tokens > 1 and (quant.v is None or quant.v.residual)
    if rounds:  # the queries of the first block are the unquantized model's own
        first = min(spec.residual for spec in (quant.k, quant.v) if spec)
        assert bool((apart[:first] < 1e-9).all())
        assert bool((apart[first:] > 1e-6).all())


@pytest.mark.parametrize("name", ["k", "v", "k and v apart", "k, then q and k"])
def test_the_gradient_goes_through_what_is_read_exactly_and_what_is_not(tiny, ids, monkeypatch, name):
    """With a smooth change in place of rounding, central differences are the oracle for the way back."""
    monkeypatch.setattr(differentiable, "rounded", lambda x, spec: x + 0.2 * (2 * x).sin())
    found = objective(tiny(dtype=torch.float64), ids, BLOCKS[name], "shared")
    at = drawn(found.loaded, found.bands, spread=0.5).double()
    slope, _ = found.gradient(at, 1)
    alone = KLObjective(found.loaded, found.condition, found.spec, found.bands, found.ids[1:])
    h = 1e-4
    wanted = torch.zeros_like(at)
    for place in torch.cartesian_prod(*(torch.arange(n) for n in at.shape)):
        moved = torch.zeros_like(at)
        moved[tuple(place)] = h
        wanted[tuple(place)] = (alone.value(at + moved) - alone.value(at - moved)) / (2 * h)
    assert float(wanted.abs().max()) > 1e-6
    assert float((slope - wanted).abs().max()) < 1e-5 * float(wanted.abs().max())


@pytest.mark.parametrize("granularity", ["kv_head", "layer", "model"])
def test_its_gradient_is_the_finite_difference(tiny, ids, granularity):
    """Without rounding `shared` scales are a smooth change of the logits: central differences are the oracle."""
    loaded = tiny(dtype=torch.float64)
    found = objective(loaded, ids, QuantSpec(), "shared", granularity)
    at = drawn(loaded, found.bands, spread=0.5).double()
    slope, kl = found.gradient(at, 1)
    alone = KLObjective(loaded, found.condition, found.spec, found.bands, found.ids[1:])
    assert kl == pytest.approx(alone.value(at), rel=1e-9)
    h = 1e-4
    wanted = torch.zeros_like(at)
    for place in torch.cartesian_prod(*(torch.arange(n) for n in at.shape)):
        moved = torch.zeros_like(at)
        moved[tuple(place)] = h
        wanted[tuple(place)] = (alone.value(at + moved) - alone.value(at - moved)) / (2 * h)
    dims = {"kv_head": (), "layer": (1,), "model": (0, 1)}[granularity]
    wanted = wanted.mean(dims, keepdim=True).expand_as(wanted) if dims else wanted
    assert torch.allclose(slope, wanted, rtol=1e-4, atol=1e-9)
    assert float(slope.abs().max()) > 1e-5


@pytest.mark.parametrize(("residual", "refused"), [(47, False), (48, True)])
def test_windows_whose_keys_are_all_read_exactly_are_refused(hurt, residual, refused):
    quant = QuantSpec(k=QuantizerSpec(4, residual=residual))
    if not refused:
        found = search.run(hurt, Setting(ROPE, quant, search=polished()), TEXTS).report
        assert found.objective_identity > 0
        return
    with pytest.raises(BadSpec, match="in 48 tokens every query reads all keys exactly") as caught:
        search.run(hurt, Setting(ROPE, quant, search=polished()), TEXTS)
    assert "\n" not in str(caught.value)
    assert "make length and polish_length longer than 48" in str(caught.value)


def polished(**options):
    return asked(objective="kl", steps=6, polish_steps=10, polish_windows=2, polish_length=48, **options)


@pytest.fixture
def hurt(tiny):
    return plant(tiny(head_dim=32), [(1, 0)])


def test_it_starts_from_the_cached_result_and_ends_no_worse(hurt):
    out = search.run(hurt, Setting(ROPE, INT4, search=polished()), TEXTS)
    history = {c.label: c.objective for c in out.report.history}
    assert list(history)[:3] == ["identity", "cached result", "polish step 1"]
    assert sum(label.startswith("polish step") for label in history) == 10
    assert out.report.objective == "kl"
    assert out.report.method == "gradient, by gradients of the KL through the whole model"
    assert out.report.objective_identity == history["identity"]
    assert history["cached result"] < 0.9 * history["identity"]
    assert out.report.objective_found == min(history["identity"], history["cached result"], history["polish result"])


@pytest.mark.slow
def test_on_a_trained_model_it_wins_more_than_the_cached_objective(demo):
    texts = {name: split(name) for name in SPLITS}
    spec = SearchSpec(
        objective="kl", bands=BandSpec(32), length=512, windows=2, steps=1, polish_windows=4, polish_length=256
    )
    report = search.run(demo, Setting(RopeSpec("yarn", 4.0), INT4, search=spec), texts).report
    history = {c.label: c.objective for c in report.history}
    assert history["polish result"] < 0.95 * history["cached result"]
    assert history["cached result"] < 0.6 * history["identity"]
    assert report.objective_found == history["polish result"]


@pytest.mark.parametrize("granularity", ["layer", "model"])
def test_the_granularity_holds(hurt, granularity):
    g = search.run(hurt, Setting(ROPE, INT4, search=polished(granularity=granularity)), TEXTS).found.g
    assert torch.equal(g[:, 0], g[:, 1])
    assert torch.equal(g[0], g[1]) or granularity == "layer"


def test_cancelled_and_resumed_it_ends_where_it_would_have(hurt):
    spec = polished()
    before = {name: p.data.clone() for name, p in hurt.model.named_parameters()}
    whole = search.run(hurt, Setting(ROPE, INT4, search=spec), TEXTS)
    left = stopped(hurt, spec, "polish step", 6)
    assert left.report.objective == "kl"
    assert left.report.history == whole.report.history[: len(left.report.history)]
    assert left.report.objective_found <= min(c.best for c in left.report.history)
    assert all(torch.equal(p.data, before[name]) for name, p in hurt.model.named_parameters())
    again = search.run(hurt, Setting(ROPE, INT4, search=spec), TEXTS, resume=left)
    assert [c.label for c in again.report.history] == [c.label for c in whole.report.history]
    assert [c.objective for c in again.report.history] == pytest.approx([c.objective for c in whole.report.history])
    assert again.report.objective_found <= whole.report.objective_found


def test_a_cancel_inside_the_pass_restores_the_model(hurt, ids):
    before = {name: p.data for name, p in hurt.model.named_parameters()}
    implementation = hurt.model.config._attn_implementation
    with (
        pytest.raises(Cancelled),
        open_trainable(hurt, Condition(ROPE, QUANTS["weights and k"]), 24, channels(hurt, bands_of(hurt)), "symmetric"),
    ):
        raise Cancelled("search")
    assert all(
        p.data is before[name] or p.data.data_ptr() == before[name].data_ptr()
        for name, p in hurt.model.named_parameters()
    )
    assert hurt.model.config._attn_implementation == implementation


@pytest.mark.parametrize("weights", [WeightQuantSpec(4, scale="tensor"), WeightQuantSpec(4)])
def test_where_only_rounded_weights_would_move_it_is_refused(tiny, weights):
    with pytest.raises(BadSpec, match="--objective full") as caught:
        search.run(tiny(), Setting(ROPE, QuantSpec(weights=weights), search=polished(mode="shared")), TEXTS)
    assert "\n" not in str(caught.value)


def test_its_options_are_checked():
    for name in ("polish_steps", "polish_windows"):
        with pytest.raises(BadSpec, match=name):
            SearchSpec(**{name: 0})
    with pytest.raises(BadSpec, match="polish_length"):
        SearchSpec(polish_length=1)
