"""GPTQ against the published update by brute force, against RTN where they must agree, and on its own goal."""

import numpy as np
import pytest
import torch

from qroar_core.errors import BadSpec
from qroar_core.quantizers.weights import fake_quantize_weight
from qroar_core.remedies.methods.gptq.prepare import gptq
from qroar_core.specs import WeightQuantSpec
from tests.remedies.matrices import inputs, weights

SPECS = {
    "channel": WeightQuantSpec(4),
    "group": WeightQuantSpec(3, "group", 8),
    "affine": WeightQuantSpec(3, "group", 8, symmetric=False),
    "full range": WeightQuantSpec(4, "group", 16, full_range=True),
}
EVERY = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def nearest(value, span, spec):
    """A number on the grid that a span of weights gets, by numpy; every level tried."""
    top = 2 ** (spec.bits - 1) - 1
    if not spec.symmetric:
        steps = 2**spec.bits - 1
        levels = span.min() + (span.max() - span.min()) / steps * np.arange(steps + 1)
    elif spec.full_range:
        levels = abs(span).max() / (top + 0.5) * np.arange(-top - 1, top + 1)
    else:
        levels = abs(span).max() / top * np.arange(-top, top + 1)
    return levels[np.argmin(abs(levels - value))]


def by_brute_force(w, hessian, spec, damp):
    """Optimal brain quantization of every row: H of the columns left is inverted anew for each column."""
    h = hessian.numpy() + damp * np.trace(hessian.numpy()) / len(hessian) * np.eye(len(hessian))
    size = spec.group_size if spec.scale == "group" else w.shape[1]
    out = np.zeros(w.shape)
    for row in range(len(w)):
        left = w[row].numpy().copy()
        for j in range(len(left)):
            if j % size == 0:
                span = left[j : j + size].copy()
            inverse = np.linalg.inv(h[j:, j:])
            out[row, j] = nearest(left[j], span, spec)
            left[j:] -= (left[j] - out[row, j]) / inverse[0, 0] * inverse[0]
    return out


@EVERY
def test_it_is_the_published_update(spec):
    x, w = inputs(), weights()
    hessian = x.T @ x / len(x)
    found = gptq(w, hessian, spec, damp=0.01)
    expected = by_brute_force(w, hessian, spec, 0.01)
    assert np.allclose(found.numpy(), expected, atol=1e-9)
    assert not torch.allclose(found, fake_quantize_weight(w, spec), atol=1e-3)


@EVERY
@pytest.mark.parametrize("factor", [1.0, 7.5])
def test_without_correlation_it_is_round_to_nearest(spec, factor):
    w = weights()
    assert torch.allclose(gptq(w, factor * torch.eye(32).double(), spec), fake_quantize_weight(w, spec), atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
@EVERY
def test_its_outputs_on_the_calibration_inputs_move_less(spec, seed):
    x, w = inputs(seed=seed), weights(seed=seed + 10)
    error = {
        how: float(((made - w) @ x.T).square().mean())
        for how, made in (("gptq", gptq(w, x.T @ x / len(x), spec)), ("rtn", fake_quantize_weight(w, spec)))
    }
    assert error["gptq"] < 0.95 * error["rtn"]


def test_wide_layers_are_the_same_in_blocks():
    """300 inputs are three blocks; the oracle knows of none."""
    x, w = inputs(tokens=900, width=300), weights(rows=2, width=300)
    hessian, spec = x.T @ x / len(x), SPECS["channel"]
    assert np.allclose(gptq(w, hessian, spec).numpy(), by_brute_force(w, hessian, spec, 0.01), atol=1e-9)


@EVERY
def test_a_row_scale_goes_through(spec):
    """Band scales on rows of the rounded weights are GPTQ of the scaled weights."""
    x, w = inputs(), weights()
    g = torch.linspace(-2, 2, 12).double().exp2()[:, None]
    hessian = x.T @ x / len(x)
    assert torch.allclose(gptq(g * w, hessian, spec), g * gptq(w, hessian, spec), atol=1e-9)


def test_dead_inputs_dtype_and_refusals():
    x, w = inputs(), weights().float()
    x[:, 5] = 0
    kept = w.clone()
    found = gptq(w, x.T @ x / len(x), SPECS["group"])
    assert found.dtype == torch.float32
    assert torch.equal(w, kept)
    assert bool((found[:, 5] == 0).all())
    assert bool(found.isfinite().all())
    with pytest.raises(BadSpec, match="row by row"):
        gptq(w, torch.eye(32), WeightQuantSpec(4, "tensor"))
    with pytest.raises(BadSpec, match="does not divide"):
        gptq(w, torch.eye(32), WeightQuantSpec(4, "group", 12))
