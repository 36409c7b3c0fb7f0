"""Searching pair angles: what they gain where the error depends on the angle, that they never lose, what is refused."""

import math

import pytest
import torch

from qroar_core.errors import BadSpec
from qroar_core.interpolations.bands import band_of_channel
from qroar_core.maths.attention_error import CapturedLayer, ErrorSetup, attention_error, output_of
from qroar_core.models.capture import Capture
from qroar_core.scale_search import run as search
from qroar_core.scale_search.cached import CachedObjective
from qroar_core.scale_search.methods.gradient import gradient
from qroar_core.scale_search.search_objectives import require_gradient
from qroar_core.scale_search.state import SearchState
from qroar_core.setting import Setting
from qroar_core.specs import QuantizerSpec, QuantSpec, RopeSpec, SearchSpec, WeightQuantSpec
from tests.scale_search.cancelled import last_step, whole_and_resumed
from tests.scale_search.searching import INT4, METHODS, TEXTS, asked, run

BANDS = ((0, 1),)


def lying_on_an_axis(tokens=48, seed=0):
    """One head of two pairs that hardly turn: pair 0 lies on its first axis and is four times as long as pair 1."""
    generator = torch.Generator().manual_seed(seed)
    k = 0.2 * torch.randn(1, tokens, 4, generator=generator)
    k[..., 0] += 6.0
    q, v = torch.randn(1, tokens, 4, generator=generator), torch.randn(1, tokens, 4, generator=generator)
    rows = torch.arange(8, tokens)
    out = output_of(q[:, rows], rows, k, v, 0.5)
    return CapturedLayer(q[:, rows], rows, k, v, out)


def objective_of(layer):
    cos = torch.ones(layer.k.shape[1], 2)
    band = band_of_channel(BANDS, 4, 4, "half")
    setup = ErrorSetup(INT4, "symmetric", band, 0.5, "half", cos, torch.zeros_like(cos), "projected")
    k = layer.k
    taken = Capture([[layer]], [torch.eye(4)[None]], k.abs().amax(1)[None], (k.mT @ k)[None], 0.5, cos, 0 * cos)
    return CachedObjective(taken, setup, "kv_head")


def test_a_pair_on_an_axis_is_turned_off_it():
    """The range falls by sqrt 2 at 45 degrees, so the error by about half: 1 / 2 in the square."""
    layer = lying_on_an_axis(400, seed=3)  # on fewer rows where the steps end hangs on the last digit of a sum
    objective = objective_of(layer)
    by_degree = []
    for degrees in range(-90, 91, 5):
        point = torch.tensor([[[0.0, math.radians(degrees), 0.0]]])
        by_degree.append((objective.value(point), degrees))
    least, where = min(by_degree)
    assert abs(abs(where) - 45) <= 15
    assert 0.3 < least < 0.7
    limits = torch.tensor([[[-4.0, 4.0], [-math.inf, math.inf], [-math.inf, math.inf]]])
    descent = SearchState(objective, limits, asked(angles=True, steps=200), lambda *a: None)
    gradient(descent, {"identity": torch.zeros(1, 1, 3)})
    assert descent.value < 0.8
    assert abs(abs(math.degrees(float(descent.best[0, 0, 1]))) - 45) < 25


def test_the_gradient_of_an_angle_is_a_finite_difference_without_rounding():
    """Rounding is not smooth, its mean over many rows nearly is: the mean slope against the error's own difference."""
    layer = lying_on_an_axis(400)
    objective = objective_of(layer)
    setup, metric = objective.setup, objective.capture.metric[0]
    at = torch.tensor([[0.0, math.radians(20), 0.0]])

    def error(angle):
        moved = at.clone()
        moved[0, 1] = angle
        return float(attention_error(layer, moved, metric, setup).sum())

    spread = torch.linspace(-0.15, 0.15, 61)
    slopes, values = [], []
    for d in spread.tolist():
        x = at.clone()
        x[0, 1] += d
        x.requires_grad_(True)
        attention_error(layer, x, metric, setup).sum().backward()
        slopes.append(float(x.grad[0, 1]))
        values.append(error(float(at[0, 1]) + d))
    climbed = sum(slopes) / len(slopes) * 0.3  # the mean slope times the way
    assert climbed < 0
    assert values[-1] - values[0] < 0
    assert 0.4 < climbed / (values[-1] - values[0]) < 2.5


def test_angles_are_searched_beside_scales_and_only_help(tiny):
    loaded = tiny()
    alone, both = (run(loaded, asked(angles=angles, steps=40)) for angles in (False, True))
    assert alone.found.angles is None
    assert both.found.angles.shape == (loaded.geometry.n_layers, loaded.geometry.n_kv_heads, loaded.geometry.n_pairs)
    assert both.found.turns
    assert both.report.objective_found < alone.report.objective_found
    assert both.report.bounds == alone.report.bounds  # of log2 g only


def test_one_angle_for_the_layer_where_the_scale_is_the_layers(tiny):
    searched = [run(tiny(seed=seed), asked(angles=True, granularity="layer", steps=60)).found for seed in (1, 2)]
    for found in searched:
        assert torch.equal(found.angles, found.angles[:, :1].expand_as(found.angles))
    assert any(found.turns for found in searched)  # on one random model in eight no angle helps a whole layer


def test_a_cancelled_search_goes_on_with_its_angles(tiny):
    whole, left, again = whole_and_resumed(tiny, asked(angles=True, steps=24))
    assert whole.found.turns
    best = whole.report.objective_found
    assert left.found.turns or left.state.x.any()
    assert again.report.objective_found <= best  # cancelling offers one candidate more
    assert last_step(again) == last_step(whole)


@pytest.mark.parametrize("method", [m for m in METHODS if m != "gradient"])
def test_only_gradients_search_angles(method):
    with pytest.raises(BadSpec, match="--angles: gradients alone search pair angles"):
        require_gradient(SearchSpec(angles=True, method=method))


def test_the_full_objective_searches_no_angles():
    with pytest.raises(BadSpec, match="--angles: gradients alone search pair angles"):
        require_gradient(SearchSpec(angles=True, objective="full"))


def test_rounded_weights_and_the_kl_objective_exclude_angles(tiny):
    quant = QuantSpec(weights=WeightQuantSpec(4), k=QuantizerSpec(4))
    spec = asked(angles=True, objective="kl")
    with pytest.raises(BadSpec, match="turned rows round apart"):
        search.run(tiny(), Setting(RopeSpec(), quant, search=spec), TEXTS)


def test_a_polish_moves_angles_too(tiny):
    spec = asked(angles=True, objective="kl", steps=4, polish_steps=6, polish_windows=2, polish_length=48)
    outcome = run(tiny(), spec)
    history = {c.label: c.objective for c in outcome.report.history}
    assert outcome.found.turns
    assert outcome.report.objective_found == min(history[x] for x in ("identity", "cached result", "polish result"))
