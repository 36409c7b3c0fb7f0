"""Pressure of all methods on the demo model, against closed forms written out in numpy and finite differences."""

import math

import numpy as np
import pytest
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from qroar_core.diagnostics.pressure import figure_methods
from qroar_core.errors import BadSpec
from qroar_core.interpolations.pressure_of_methods import pressures
from qroar_core.specs import BandSpec, RopeSpec

THETA, R, L0 = 10_000.0, 64, 256  # the demo's
OMEGA = THETA ** (-2 * np.arange(R // 2) / R)
BANDS = BandSpec(8)
YARN = RopeSpec("yarn", 4.0)
FP32 = 3e-6  # transformers keeps frequencies in float32; its float64 twin differs by this share
LISTS = tuple(1 + 0.1 * i for i in range(R // 2))


def mean(length, law):
    """E[D] by counting every pair of positions, or every distance."""
    if law == "uniform":
        return np.arange(length).mean()
    distances = np.arange(length)
    return np.average(distances, weights=length - distances)


def found(demo, rope=YARN, factor=4.0, length=1024, law="causal", bands=BANDS):
    return pressures(demo, rope, factor, length, law, bands)


def method(result, name):
    return next(m for m in result.methods if m.method == name)


def yarn_gamma():
    """1 where YaRN leaves a pair alone: a ramp in the pair's index between 32 and 1 turns, rounded outward."""
    index = [R * math.log(L0 / (turns * 2 * math.pi)) / (2 * math.log(THETA)) for turns in (32, 1)]
    low, high = max(math.floor(index[0]), 0), math.ceil(index[1])
    return 1 - np.clip((np.arange(R // 2) - low) / (high - low), 0, 1)


CLOSED = {  # |d omega / d ln s|, omega(s)
    "linear": lambda s: (OMEGA / s, OMEGA / s),
    "ntk": lambda s: (
        2 * np.arange(R // 2) / (R - 2) * OMEGA * s ** (-2 * np.arange(R // 2) / (R - 2)),
        OMEGA * s ** (-2 * np.arange(R // 2) / (R - 2)),
    ),
    "yarn": lambda s: ((1 - yarn_gamma()) * OMEGA / s, OMEGA * (yarn_gamma() + (1 - yarn_gamma()) / s)),
}


@pytest.mark.parametrize("law", ["causal", "uniform"])
@pytest.mark.parametrize("length", [300, 4096])
@pytest.mark.parametrize("factor", [2.0, 6.5])
@pytest.mark.parametrize("name", CLOSED)
def test_linear_ntk_and_yarn_are_their_closed_forms(demo, name, factor, length, law):
    shown = method(found(demo, factor=factor, length=length, law=law), name)
    slope, omega = CLOSED[name](factor)
    distance = mean(length, law)
    np.testing.assert_allclose(shown.inv_freq, omega, rtol=FP32)
    np.testing.assert_allclose(shown.pressure, slope * distance, rtol=FP32, atol=1e-12)
    np.testing.assert_allclose(shown.displacement, np.abs(omega - OMEGA) * distance, rtol=FP32, atol=FP32 * distance)
    bands = (slope * distance).reshape(8, 4).mean(1)
    np.testing.assert_allclose(shown.band_pressure, bands, rtol=FP32, atol=1e-12)


def test_dynamic_ntk_is_static_ntk_at_the_factor_its_length_asks_for(demo):
    s, length = 4.0, 1500
    grown = s * length / L0 - (s - 1)
    np.testing.assert_allclose(
        method(found(demo, factor=s, length=length), "dynamic").inv_freq, CLOSED["ntk"](grown)[1], rtol=3 * FP32
    )
    step = 1e-5
    up, down = (CLOSED["ntk"](x * length / L0 - (x - 1))[1] for x in (s * math.exp(step), s * math.exp(-step)))
    expected = np.abs(up - down) / (2 * step) * mean(length, "causal")
    np.testing.assert_allclose(
        method(found(demo, factor=s, length=length), "dynamic").pressure, expected, rtol=1e-5, atol=1e-9
    )
    assert not any(method(found(demo, factor=s, length=L0), "dynamic").pressure)


def test_llama3_is_the_finite_difference_of_transformers_frequencies(demo):
    def frequencies(s):
        config = LlamaConfig(
            hidden_size=256,
            num_attention_heads=4,
            head_dim=R,
            max_position_embeddings=L0,
            rope_parameters={
                "rope_type": "llama3",
                "rope_theta": THETA,
                "factor": s,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": L0,
            },
        )
        return ROPE_INIT_FUNCTIONS["llama3"](config, None)[0].double().numpy()

    step = 5e-3
    expected = np.abs(frequencies(4 * math.exp(step)) - frequencies(4 * math.exp(-step))) / (2 * step)
    expected *= mean(1024, "causal")
    shown = np.array(method(found(demo), "llama3").pressure)
    np.testing.assert_allclose(shown, expected, rtol=5e-4, atol=1e-4 * expected.max())
    assert (shown[:6] == 0).all()
    assert (shown[-6:] > 0).all()


def test_the_chosen_method_keeps_its_own_options(demo):
    rope = RopeSpec("yarn", 4.0, original_context=512, beta_fast=8.0)
    own, plain = found(demo, rope), found(demo)
    assert [m.method for m in own.methods if m.chosen] == ["yarn"]
    assert method(own, "yarn").pressure != method(plain, "yarn").pressure
    assert method(own, "linear").pressure == method(plain, "linear").pressure


def test_longrope_needs_lists_and_stays_at_its_own_factor(demo):
    without = found(demo)
    assert "longrope" not in [m.method for m in without.methods]
    assert "a factor per pair" in without.absent["longrope"]
    rope = RopeSpec("longrope", 8.0, long_factor=LISTS)
    shown = method(found(demo, rope, factor=3.0), "longrope")
    np.testing.assert_allclose(shown.inv_freq, OMEGA / np.array(LISTS), rtol=FP32)
    slope = np.log(LISTS) / math.log(8) * OMEGA / np.array(LISTS)
    np.testing.assert_allclose(shown.pressure, slope * mean(1024, "causal"), rtol=1e-4, atol=1e-6)
    assert (shown.factor, shown.chosen) == (8.0, True)


def test_the_checkpoints_own_rope_moves_nothing(demo):
    result = found(demo, RopeSpec(), factor=4.0)
    own = method(result, "default")
    assert own.chosen
    assert not any(own.pressure)
    np.testing.assert_allclose(own.displacement, 0, atol=FP32 * mean(1024, "causal"))
    assert method(result, "linear").factor == 4.0


def test_what_cannot_be_is_refused(demo):
    with pytest.raises(BadSpec, match="at least 1"):
        found(demo, factor=0.5)
    with pytest.raises(BadSpec, match="bands need"):
        found(demo, bands=BandSpec(33))


def test_a_longrope_pair_that_its_list_leaves_native_is_exactly_native(demo):
    """float32 leaves 7e-8 between a frequency and itself in float64: that is no pressure and no displacement."""
    lists = (*[1.0] * 12, *np.linspace(1.25, 4.0, 20).tolist())
    outside = method(found(demo, RopeSpec("longrope", 4.0, long_factor=lists)), "longrope")
    assert [p == 0 for p in outside.pressure] == [d == 0 for d in outside.displacement] == [True] * 12 + [False] * 20
    np.testing.assert_allclose(
        outside.pressure[12:],
        np.log(lists[12:]) / math.log(4) * OMEGA[12:] / lists[12:] * mean(1024, "causal"),
        rtol=FP32,
    )
    inside = method(found(demo, RopeSpec("longrope", 4.0, long_factor=lists), length=L0), "longrope")
    assert not any(inside.displacement)


@pytest.mark.parametrize(
    ("rope", "pairs", "bands"),
    [
        (
            RopeSpec("longrope", 4.0, long_factor=(*[1.0] * 12, *[1.25 + 0.145 * i for i in range(20)])),
            "LongRoPE moves pairs with a wavelength of 265 tokens most, and leaves 12 of 32 pairs alone",
            "LongRoPE moves band 3 most",
        ),
        (
            RopeSpec("linear", 1.0),
            "Linear at ×1 leaves every frequency native; a first bit of stretching would move pairs with a wavelength "
            "of 6 tokens most",
            "Linear at ×1 leaves every frequency native; a first bit of stretching would move band 0 most",
        ),
        (RopeSpec("yarn", 1.0), "YaRN at ×1 leaves every frequency native", "YaRN at ×1 leaves every frequency native"),
        (RopeSpec("linear", 1.5), "Linear moves pairs with a wavelength of 6 tokens most", "Linear moves band 0 most"),
    ],
)
def test_titles_count_native_pairs_as_left_alone_and_say_where_nothing_is_stretched(demo, rope, pairs, bands):
    shown = found(demo, rope, factor=rope.factor)
    assert figure_methods.by_pair(shown).title.startswith(pairs)
    assert figure_methods.by_band(shown).title.startswith(bands)
