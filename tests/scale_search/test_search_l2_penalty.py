"""Scales pulled towards 1: closed form on a bowl, 1 where the pull is strong, nothing without it."""

import pytest
import torch

from qroar_core.maths.attention_error import ErrorSetup
from qroar_core.models.capture import Capture
from qroar_core.scale_search import l2_penalty
from qroar_core.scale_search import run as search
from qroar_core.scale_search.cached import CachedObjective
from qroar_core.scale_search.methods.coordinate import coordinate
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.scale_search.state import SearchState
from qroar_core.setting import Setting
from qroar_core.specs import RopeSpec, SearchSpec
from tests.scale_search.searching import INT4, TEXTS, asked, plant

ROPE = RopeSpec("yarn", 2.0)
STEEP, CENTRE = 0.5, torch.tensor([2.0, -1.0])  # E / E(identity) = 1 + STEEP * (|x - CENTRE|^2 - |CENTRE|^2) / bands
PULL = torch.tensor([[0.25, 1.0]])  # (layers, bands)


def closed_form():
    """Where STEEP / 2 (x - c)^2 + pull x^2 is least."""
    return STEEP / 2 * CENTRE / (STEEP / 2 + PULL[0])


class Bowl(CachedObjective):
    """A quadratic error in place of attention's, with the parent's price on top."""

    def _window(self, w, log2_g):
        return (1 + STEEP * ((log2_g - CENTRE).square() - CENTRE.square()).mean(-1))[..., None] + torch.zeros(1, 1, 8)


def bowl(pull=PULL):
    band = torch.tensor([0, 1, 0, 1])
    setup = ErrorSetup(INT4, "symmetric", band, 1.0, "half", torch.zeros(1, 4), torch.zeros(1, 4), "rows")
    taken = Capture(
        [[]], [torch.eye(4)[None]], torch.ones(1, 1, 4), torch.eye(4)[None, None], 1.0, setup.cos, setup.sin
    )
    return Bowl(taken, setup, "kv_head", pull)


def test_price_by_hand():
    found = l2_penalty.price(torch.tensor([[[1.0, 2.0], [0.0, -3.0]]]), PULL[:, None])
    assert found.tolist() == [[0.25 + 4.0, 9.0]]
    with_angles = torch.tensor([1.0, 2.0, 7.0, 7.0])  # behind the bands: no scales, free
    assert float(l2_penalty.price(with_angles, PULL[0])) == 4.25


def test_the_least_of_bowl_and_price_is_the_closed_form():
    objective, zero = bowl(), torch.zeros(1, 1, 2)
    assert objective.value(zero) == 1.0
    x = closed_form()[None, None]
    expected = 1 + float((STEEP / 2 * ((x - CENTRE).square() - CENTRE.square()) + PULL * x.square()).sum())
    assert objective.value(x) == pytest.approx(expected)
    for step in (torch.tensor([0.01, 0.0]), torch.tensor([0.0, 0.01])):
        assert objective.value(x) < min(objective.value(x + step), objective.value(x - step))


def test_coordinate_descent_stops_at_the_grid_point_next_to_it():
    spec = SearchSpec(method="coordinate", grid_points=81, sweeps=2)
    bounds = torch.tensor([[-4.0, 4.0]]).expand(1, 2, 2)
    for pull, aim in ((PULL, closed_form()), (None, CENTRE)):
        run = SearchState(bowl(pull), bounds, spec, lambda *a: None)
        coordinate(run, {"identity": torch.zeros(1, 1, 2)})
        assert (run.best[0, 0] - aim).abs().max() <= 0.05 + 1e-6  # half a grid step


@pytest.fixture
def hurt(tiny):
    return plant(tiny(head_dim=32), [(1, 0)])


def test_the_pull_is_the_spec_over_the_pressure_widths(hurt):
    spec = asked(max_log2_scale=3.0, pressure_weight=0.5, l2_penalty=0.2)
    problem = SearchProblem(hurt, ROPE, INT4, spec, TEXTS)
    pressure = problem.pressure().expand(2, 4)
    kappa = 3.0 / (1 + 0.5 * pressure / problem.pressure().flatten().view(-1, 4)[0].quantile(0.5))
    assert torch.allclose(problem.pull.double(), 0.2 / kappa.square() / 4)
    by_hand = asked(max_log2_scale=3.0, pressure_weight=0.5, l2_penalty=0.2, bounds=((-1.0, 1.0),) * 4)
    assert torch.equal(SearchProblem(hurt, ROPE, INT4, by_hand, TEXTS).pull, problem.pull)
    assert SearchProblem(hurt, ROPE, INT4, asked(), TEXTS).pull is None


def test_the_gradient_is_that_of_the_logarithm_of_error_and_price(hurt):
    """Against central differences of the two parts, on the same rows."""
    from qroar_core.models.capture import capture

    problem = SearchProblem(hurt, ROPE, INT4, asked(), TEXTS)
    objective = problem.objective(capture(hurt, ROPE, problem.windows("calibration", 64, 2), 16))
    x = torch.full((2, 2, 4), 0.3)
    every = torch.arange(16)
    bare, _ = objective.gradient(x, 0, every)
    relative = objective._window(0, x).sum(-1) / objective.identity[0].sum(-1)
    objective.pull = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]])
    paid = (objective.pull[:, None] * x.square()).sum(-1)
    slope, value = objective.gradient(x, 0, every)
    expected = (relative[..., None] * bare + 2 * objective.pull[:, None] * x) / (relative + paid)[..., None]
    assert torch.allclose(slope, expected, rtol=1e-4, atol=1e-6)
    assert value == pytest.approx(float((relative + paid).mean()), rel=1e-5)


@pytest.mark.parametrize(("method", "little"), [("gradient", 0.01), ("coordinate", 0.3)])
def test_a_strong_pull_leaves_every_scale_at_1_and_a_weak_one_most_of_the_gain(hurt, method, little):
    free, weak, strong = (
        search.run(hurt, Setting(ROPE, INT4, search=asked(method=method, steps=30, l2_penalty=l2_penalty)), TEXTS)
        for l2_penalty in (0.0, little, 1e6)
    )
    assert strong.found.g.log2().abs().max() < 1e-3
    sizes = [float(out.found.g.log2().square().mean()) for out in (free, weak)]
    assert 0.1 * sizes[0] < sizes[1] < sizes[0]
    assert weak.report.objective_found < 0.9
