"""Steps against the spacing of the levels themselves, seen by sweeping a value through each quantizer in float64."""

import math

import pytest
import torch

from qroar_core.quantizers.fake_quantize import fake_quantize
from qroar_core.quantizers.presets import KV_PRESETS
from qroar_core.quantizers.steps import ends_of, squared_step
from qroar_core.specs import QuantizerSpec as Spec

PLAIN = {
    "int4-token": Spec(4),
    "int2-token": Spec(2),
    "int4-token-fp16": Spec(4, scale_dtype="float16"),
    "int4-block": Spec(4, scale="block", group_size=16),
    "int4-channel": Spec(4, scale="channel", group_size=8),
    "int4-tensor": Spec(4, scale="tensor", static_scale=0.4),
    "affine4-token": Spec(4, levels="affine"),
    "affine4-tensor": Spec(4, scale="tensor", levels="affine", static_scale=0.3),
    "e4m3-token": Spec(8, levels="e4m3"),
    "e5m2-token": Spec(8, levels="e5m2"),
    "q8_0": KV_PRESETS["q8_0-norot"].v,
    "q4_0": KV_PRESETS["q4_0-norot"].v,
    "mlx4": KV_PRESETS["mlx4"].k,
    "quanto4": KV_PRESETS["quanto4"].k,
    "kivi2-k": KV_PRESETS["kivi2"].k,
    "kivi2-v": KV_PRESETS["kivi2"].v,
    "fp8": KV_PRESETS["fp8"].k,
}
HEADS, TOKENS, DIM = 2, 36, 64


def keys(seed=0):
    x = torch.randn(HEADS, TOKENS, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x[..., 3] *= 8
    x[..., 20] += 5
    return x


def levels_around(x, spec, at):
    """The two neighbouring levels around x[at]: rounded as the others of its set stay, the value itself swept.

    Sweeps stay inside what the rest of the set spans, so that no scale moves.
    """
    h, t, c = at
    sweep = torch.linspace(-1.95, 1.95, 4001, dtype=torch.float64)
    many = x[h].expand(len(sweep), TOKENS, DIM).clone()
    many[:, t, c] = sweep
    seen = fake_quantize(many, spec)[:, t, c]
    levels = sorted(set(round(float(v), 12) for v in seen))
    return levels


@pytest.mark.parametrize("name", [n for n in PLAIN if n not in ("e4m3-token", "e5m2-token", "fp8")])
def test_a_step_is_the_distance_between_neighbouring_levels(name):
    """One value is swept while the others of its set keep the scale; its levels are then this far apart."""
    spec, x = PLAIN[name], keys().clamp(-2, 1.9)
    x[..., 0, :] = x[..., 8, :] = x[..., 16, :] = 2.0  # extremes that no sweep reaches, also along tokens
    x[..., 1, :] = x[..., 9, :] = x[..., 17, :] = -2.5
    for block in range(0, DIM, 8):
        x[..., block], x[..., block + 1] = 2.0, -2.5
    step = squared_step(x, spec).sqrt()
    assert step.shape == x.shape
    for at in ((0, 5, 7), (1, 13, 21), (0, 22, 60)):
        levels = levels_around(x, spec, at)
        gaps = [b - a for a, b in zip(levels, levels[1:])]
        assert len(gaps) >= 1
        assert gaps == pytest.approx([float(step[at])] * len(gaps), rel=1e-6)


def test_steps_of_absmax_affine_and_static_scales_by_hand():
    x = keys()
    peak = x.abs().amax(-1, keepdim=True)
    assert torch.allclose(squared_step(x, Spec(4)).sqrt(), (peak / 7).expand_as(x))
    span = x.amax(-1, keepdim=True) - x.amin(-1, keepdim=True)
    assert torch.allclose(squared_step(x, Spec(3, levels="affine")).sqrt(), (span / 7).expand_as(x))
    assert torch.allclose(squared_step(x, PLAIN["int4-tensor"]).sqrt(), torch.full_like(x, 0.4))
    calibrated = squared_step(x, Spec(8, scale="tensor"), absmax=torch.tensor(12.7))
    assert torch.allclose(calibrated.sqrt(), torch.full_like(x, 0.1))


def test_tokens_of_an_open_group_and_zero_sets_have_no_step():
    x = keys()
    step = squared_step(x, PLAIN["int4-channel"])  # groups of 8 tokens: 4 of 36 are left over
    assert not step[:, 32:].any()
    assert (step[:, :32] > 0).all()
    assert not squared_step(x[:, :5], PLAIN["int4-channel"]).any()
    x[0, 4] = 0
    assert not squared_step(x, Spec(4))[0, 4].any()


@pytest.mark.parametrize(("levels", "mantissa", "lowest"), [("e4m3", 3, -6), ("e5m2", 2, -14)])
def test_a_float_has_its_local_step(levels, mantissa, lowest):
    x = torch.tensor([[[2.0**e * 1.3 for e in range(-20, 8)]]], dtype=torch.float64)
    spec = Spec(8, scale="tensor", levels=levels, static_scale=0.5)
    expected = [0.5 * 2.0 ** (max(math.floor(math.log2(v / 0.5)), lowest) - mantissa) for v in x.flatten().tolist()]
    assert squared_step(x, spec).sqrt().flatten().tolist() == pytest.approx(expected)


ROTATED = [
    Spec(4, rotation="hadamard"),
    KV_PRESETS["q4_0"].k,
    KV_PRESETS["q4_0"].v,
    Spec(4, "block", "affine", 32, rotation="hadamard", rotation_block=64),
]


@pytest.mark.parametrize("spec", ROTATED, ids=str)
def test_behind_a_rotation_the_step_says_how_large_the_error_is(spec):
    """Rounding errors are near uniform, variance step^2 / 12 a value; mixed by H they still are."""
    x = torch.randn(4, 3000, DIM, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x[..., 32:] *= 5
    error = fake_quantize(x, spec) - x
    square = squared_step(x, spec)
    by_channel = (error.square() / square).mean((0, 1)) * 12
    assert by_channel.min() > 0.85
    assert by_channel.max() < 1.15


def test_channel_order_is_undone():
    x = torch.zeros(1, 1, 64, dtype=torch.float64)
    x[..., :16] = 7.0  # pairs 0..15 are the first block of 32 in llama.cpp's order
    x[..., 16:32] = 14.0
    step = squared_step(x, Spec(4, scale="block", group_size=32, channel_order="interleaved")).sqrt()[0, 0]
    assert step[:16].tolist() == step[32:48].tolist() == [1.0] * 16
    assert step[16:32].tolist() == step[48:].tolist() == [2.0] * 16


def test_clipped_and_zeroed_values_by_hand():
    x = torch.tensor([[[0.0, 0.04, -0.04, 0.06, 0.74, 0.76, -0.76, 3.0]]], dtype=torch.float64)
    found = ends_of(x, Spec(4, scale="tensor", static_scale=0.1))  # levels -0.7 .. 0.7
    assert found.nonzero[0, 0].tolist() == [False] + [True] * 7
    assert found.zeroed[0, 0].tolist() == [False, True, True] + [False] * 5
    assert found.clipped[0, 0].tolist() == [False] * 5 + [True] * 3
    float8 = ends_of(torch.tensor([[[448.0, 463.0, 465.0, -1e4, 2.0**-11]]]), KV_PRESETS["fp8"].k)
    assert float8.clipped[0, 0].tolist() == [False, False, True, True, False]
    assert float8.zeroed[0, 0].tolist() == [False] * 4 + [True]
    signed = ends_of(torch.tensor([[[-8.0, 8.0, 7.4, *[0.0] * 29]]]), Spec(4, "block", "ggml_signed", 32))
    assert signed.clipped[0, 0, :3].tolist() == [False, True, False]


@pytest.mark.parametrize("name", PLAIN)
def test_zeroed_is_what_rounding_makes_zero(name):
    x = keys()
    got = fake_quantize(x, PLAIN[name])
    found = ends_of(x, PLAIN[name])
    near = 1e-4 * squared_step(x, PLAIN[name]).sqrt()  # a grid that holds zero but for the arithmetic holds it
    near = near if PLAIN[name].levels in ("affine", "mlx_affine") else 0 * near
    assert torch.equal(found.zeroed, (x != 0) & (got.abs() <= near))


def test_behind_a_rotation_ends_are_those_of_the_rotated_values():
    x = keys()
    x[..., 40] = 60.0
    spec = Spec(4, rotation="hadamard")
    signs = torch.tensor([[(-1.0) ** bin(i & j).count("1") for j in range(DIM)] for i in range(DIM)]).double() / 8
    turned = x @ signs
    step = turned.abs().amax(-1, keepdim=True) / 7
    assert torch.equal(ends_of(x, spec).zeroed, (turned / step).round() == 0)
    assert not ends_of(x, spec).clipped.any()
