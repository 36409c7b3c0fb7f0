"""AWQ and SmoothQuant: scales of input channels against the published rules, worked out by hand or in numpy."""

import numpy as np
import pytest
import torch

from qroar_core.quantizers.weights import fake_quantize_weight
from qroar_core.remedies.methods.awq.prepare import GRID, awq_scale, awq_search
from qroar_core.remedies.methods.smoothquant.prepare import smoothquant
from qroar_core.specs import WeightQuantSpec
from tests.remedies.matrices import inputs, weights

SPEC = WeightQuantSpec(3, "group", 8)


def test_awq_scale_by_hand():
    """|x| of 1, 4 and 16 at alpha 1/2: 1, 2 and 4, over sqrt(4 * 1)."""
    assert torch.allclose(awq_scale(torch.tensor([1.0, 4.0, 16.0]), 0.5), torch.tensor([0.5, 1.0, 2.0]))
    assert torch.equal(awq_scale(torch.tensor([3.0, 5.0]), 0.0), torch.ones(2))
    floored = awq_scale(torch.tensor([0.0, 1.0]), 0.5)  # a dead input: 1e-4 against 1, over sqrt(1e-4)
    assert torch.allclose(floored, torch.tensor([1e-2, 1e2]))


def test_awq_takes_the_alpha_of_the_least_output_error():
    """Oracle: the linear itself, run on the inputs at every alpha."""
    x, w = inputs(), weights()
    size = x.abs().mean(0)
    errors = []
    for step in range(GRID):
        s = size.numpy() ** (step / GRID)
        s = torch.from_numpy(s / np.sqrt(s.max() * s.min()))
        outputs = (x / s) @ fake_quantize_weight(w * s, SPEC).T
        errors.append(float((outputs - x @ w.T).square().mean()))
    s, alpha = awq_search(w, size, x.T @ x / len(x), SPEC)
    assert alpha == int(np.argmin(errors)) / GRID
    assert 0 < alpha < 0.95
    assert torch.allclose(s, awq_scale(size, alpha))
    assert min(errors) < 0.8 * errors[0]  # alpha 0 is round to nearest


def test_awq_leaves_alike_inputs_alone():
    w = weights()
    s, alpha = awq_search(w, torch.ones(32).double(), torch.eye(32).double(), SPEC)
    assert alpha == 0.0
    assert torch.equal(s, torch.ones(32).double())


def test_the_scaled_linear_is_the_same_linear():
    x, w = inputs(), weights()
    for s in (awq_scale(x.abs().mean(0), 0.7), smoothquant(x.abs().amax(0), w)):
        assert torch.allclose((x / s) @ (w * s).T, x @ w.T, atol=1e-10)


@pytest.mark.parametrize(
    ("alpha", "expected"), [(0.5, [2.0, 4.0, 0.5]), (1.0, [8.0, 8.0, 1.0]), (0.0, [0.5, 2.0, 0.25])]
)
def test_smoothquant_by_hand(alpha, expected):
    """max|x| of 8, 8, 1 and max|W| of 2, 1/2, 4, the larger of two stacked linears."""
    w = torch.tensor([[-2.0, 0.25, 1.0], [1.0, -0.5, -4.0]])
    assert torch.allclose(smoothquant(torch.tensor([8.0, 8.0, 1.0]), w, alpha), torch.tensor(expected))


def test_smoothquant_evens_what_a_token_shares():
    """At alpha 1/2 inputs and weights of a channel reach equally far."""
    x, w = inputs(), weights()
    s = smoothquant(x.abs().amax(0), w)
    assert torch.allclose((x / s).abs().amax(0), (w * s).abs().amax(0))
    dead = smoothquant(torch.tensor([0.0, 1.0]), torch.tensor([[1.0, 0.0]]))
    assert torch.allclose(dead, torch.tensor([1e-5, 1 / 1e-5**0.5]))
