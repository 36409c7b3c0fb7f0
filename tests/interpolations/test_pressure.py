"""Interpolation pressure against finite differences of the frequencies that transformers itself computes."""

import math

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from qroar_core.errors import BadSpec
from qroar_core.interpolations import pressure
from qroar_core.interpolations.methods import yarn
from qroar_core.interpolations.pressure import Interpolation, frequency_slope
from qroar_core.specs import RopeSpec

THETA, HEAD_DIM, L0, L = 10_000.0, 32, 256, 1024
LONG_LIST = [1.0 + 0.3 * i for i in range(HEAD_DIM // 2)]
STEP = 5e-3  # in ln s: fp32 frequencies leave 2e-5 relative noise, curvature as much


def plain() -> torch.Tensor:
    return torch.tensor([THETA ** (-2 * i / HEAD_DIM) for i in range(HEAD_DIM // 2)], dtype=torch.float64)


def oracle(method: str, s: float, length: int = L) -> tuple[torch.Tensor, float]:
    """omega(s) and a(s) by transformers; static NTK, which it lacks, by Python floats."""
    if method == "ntk":
        base = THETA * s ** (HEAD_DIM / (HEAD_DIM - 2))
        return torch.tensor([base ** (-2 * i / HEAD_DIM) for i in range(HEAD_DIM // 2)], dtype=torch.float64), 1.0
    block = {"rope_type": method, "rope_theta": THETA, "factor": s}
    if method in ("yarn", "llama3", "longrope"):
        block["original_max_position_embeddings"] = L0
    if method == "llama3":
        block |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    if method == "longrope":  # the documented geometric path through the list, known at s = 4
        block |= {
            "long_factor": [x ** (math.log(s) / math.log(4)) for x in LONG_LIST],
            "short_factor": [1.0] * (HEAD_DIM // 2),
        }
    config = LlamaConfig(
        hidden_size=2 * HEAD_DIM,
        num_attention_heads=2,
        head_dim=HEAD_DIM,
        rope_parameters=block,
        max_position_embeddings=L0,
    )
    inv_freq, attention = ROPE_INIT_FUNCTIONS[method](config, None, seq_len=length)
    return inv_freq.double(), attention


def at(method: str, s: float, length: int = L) -> Interpolation:
    scaled = plain() if method == "default" else oracle(method, s, length)[0]
    return Interpolation(RopeSpec(method, s), plain(), scaled, L0, length)


METHODS = ["linear", "ntk", "dynamic", "yarn", "longrope", "llama3"]


@pytest.mark.parametrize("s", [2.0, 4.0, 7.5])
@pytest.mark.parametrize("method", METHODS)
def test_slope_is_the_finite_difference_of_the_frequencies(method, s):
    up, down = oracle(method, s * math.exp(STEP))[0], oracle(method, s * math.exp(-STEP))[0]
    expected = (up - down) / (2 * STEP)
    slope = frequency_slope(at(method, s))
    assert torch.allclose(slope, expected, rtol=5e-4, atol=3e-5 * float(expected.abs().max()))
    moving = expected.abs() > 1e-3 * expected.abs().max()
    assert bool(moving.any())
    assert bool((slope[moving] < 0).all())


def test_llama3_has_all_three_regions_and_yarn_both_ends():
    turns = plain() * L0 / (2 * math.pi)
    slope = frequency_slope(at("llama3", 4.0))
    assert bool((slope[turns > 4] == 0).all())
    assert bool(((turns > 1) & (turns < 4)).any())
    assert torch.allclose(slope[turns < 1], -plain()[turns < 1] / 4)
    ramp = yarn.ramp(plain(), L0)
    assert float(ramp[0]) == 1
    assert float(ramp[-1]) == 0
    assert bool((ramp.diff() <= 0).all())


def test_default_and_short_longrope_have_no_pressure():
    assert not frequency_slope(at("default", 1.0)).any()
    assert not frequency_slope(at("longrope", 4.0, length=L0)).any()
    assert not frequency_slope(at("dynamic", 4.0, length=L0)).any()


@pytest.mark.parametrize("method", METHODS)
def test_attention_factor_slope_is_the_finite_difference(method):
    up, down = (math.log(oracle(method, 4 * math.exp(sign * STEP))[1]) for sign in (1, -1))
    assert pressure.attention_factor_slope(at(method, 4.0)) == pytest.approx((up - down) / (2 * STEP), abs=1e-6)


@pytest.mark.parametrize("law", ["causal", "uniform"])
def test_mean_distance_by_counting_every_pair(law):
    length = 37
    every = [m - n for m in range(length) for n in range(m + 1)] if law == "causal" else list(range(length))
    assert pressure.mean_distance(length, law) == pytest.approx(sum(every) / len(every), rel=1e-12)


def test_pressure_and_displacement_by_brute_force_over_pairs():
    """E over every causal (m, n) of the phase's finite difference and of its way from the native one."""
    length, s = 24, 3.0
    native, scaled = oracle("ntk", 1.0)[0], oracle("ntk", s)[0]
    up, down = oracle("ntk", s * math.exp(1e-4))[0], oracle("ntk", s * math.exp(-1e-4))[0]
    distance = torch.tensor([m - n for m in range(length) for n in range(m + 1)], dtype=torch.float64)
    moved = ((up - down)[:, None] * distance / 2e-4).abs().mean(1)
    displaced = (scaled[:, None] * distance - native[:, None] * distance).abs().mean(1)
    mean = pressure.mean_distance(length, "causal")
    slope = frequency_slope(Interpolation(RopeSpec("ntk", s), native, scaled, L0, length))
    assert torch.allclose(pressure.interpolation_pressure(slope, mean), moved, rtol=1e-6, atol=1e-12)
    assert torch.allclose(pressure.phase_displacement(native, scaled, mean), displaced, rtol=1e-9, atol=1e-12)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="1-D alike"):
        Interpolation(RopeSpec("linear", 2.0), plain(), plain()[1:], L0, L)
    with pytest.raises(ValueError, match="positive"):
        Interpolation(RopeSpec("linear", 2.0), -plain(), plain(), L0, L)
    with pytest.raises(BadSpec, match="distance law"):
        pressure.mean_distance(10, "gaussian")
    with pytest.raises(BadSpec, match="at least 2"):
        frequency_slope(Interpolation(RopeSpec("ntk", 2.0), plain()[:1], plain()[:1], L0, L))
