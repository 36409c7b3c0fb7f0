"""Weights against a search over all levels, compressed-tensors where installed, and Q(g w) = g Q(w)."""

import itertools

import pytest
import torch

from qroar_core.errors import BadSpec
from qroar_core.quantizers.weights import fake_quantize_weight, row_scale_equivariant
from qroar_core.specs import WeightQuantSpec

SPECS = [
    WeightQuantSpec(bits, scale, 8, symmetric, full_range)
    for bits, scale in itertools.product([2, 4, 8], ["tensor", "channel", "group"])
    for symmetric, full_range in [(True, False), (True, True), (False, False)]
]


def name(spec: WeightQuantSpec) -> str:
    return f"w{spec.bits}-{spec.scale}-{'sym' if spec.symmetric else 'affine'}{'-full' * spec.full_range}"


def weight(seed: int = 0, rows: int = 6, cols: int = 24) -> torch.Tensor:
    gen = torch.Generator().manual_seed(seed)
    w = torch.randn(rows, cols, dtype=torch.float64, generator=gen)
    return w * torch.logspace(-0.3, 0.3, rows, dtype=torch.float64)[:, None] + 0.1


def nearest(values: list[float], spec: WeightQuantSpec) -> list[float]:
    """Oracle: list the levels, take the closest, in Python floats."""
    if spec.symmetric:
        qmax = 2 ** (spec.bits - 1) - 1
        absmax = max(abs(v) for v in values)
        step = absmax / (qmax + 0.5) if spec.full_range else absmax / qmax
        levels = [step * q for q in range(-qmax - spec.full_range, qmax + 1)]
    else:
        lo, hi = min(values), max(values)
        n = 2**spec.bits - 1
        levels = [lo + (hi - lo) / n * q for q in range(n + 1)]
    return [min(levels, key=lambda level: abs(level - v)) for v in values]


@pytest.mark.parametrize("spec", SPECS, ids=name)
def test_every_weight_takes_the_nearest_level_of_its_set(spec):
    w = weight()
    size = {"tensor": w.numel(), "channel": w.shape[1], "group": spec.group_size}[spec.scale]
    flat = w.flatten().tolist()
    expected = [v for i in range(0, len(flat), size) for v in nearest(flat[i : i + size], spec)]
    got = fake_quantize_weight(w, spec)
    exact = torch.tensor(expected, dtype=torch.float64).view_as(w)
    if spec.full_range:  # a negative extreme is as far from both lowest levels: compare distances
        assert torch.allclose((got - w).abs(), (exact - w).abs(), rtol=1e-9, atol=1e-12)
    else:
        assert torch.allclose(got, exact, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("spec", SPECS, ids=name)
def test_row_scale_equivariance_is_what_the_verdict_says(spec):
    w = weight(1)
    g = torch.tensor([5.3, 2.9, 1.0, 1.37, 0.71, 0.3], dtype=torch.float64)[:, None]
    scaled_after, scaled_before = g * fake_quantize_weight(w, spec), fake_quantize_weight(g * w, spec)
    apart = ((scaled_after - scaled_before).abs() / (g * w).abs().amax()).max().item()
    if row_scale_equivariant(spec):
        assert apart < 1e-12
    else:
        assert apart > 1e-3  # one scale per matrix: the rows move to other levels


@pytest.mark.parametrize("spec", SPECS, ids=name)
def test_zero_rows_stay_zero_and_signs_of_scales_do_not_matter(spec):
    w = torch.zeros(6, 24)
    assert torch.equal(fake_quantize_weight(w, spec), w)
    w[0] = torch.randn(24, generator=torch.Generator().manual_seed(2))
    got = fake_quantize_weight(w, spec)
    assert torch.isfinite(got).all()
    if row_scale_equivariant(spec):
        assert torch.equal(got[1:], w[1:])


def test_integers_in_range_come_back_bit_equal():
    w = torch.randint(-7, 8, (5, 16), generator=torch.Generator().manual_seed(3)).float()
    w[:, [0, 8]] = 7.0
    for scale in ("tensor", "channel", "group"):
        assert torch.equal(fake_quantize_weight(w, WeightQuantSpec(4, scale, 8)), w)
    for dtype in (torch.float16, torch.bfloat16):
        got = fake_quantize_weight(w.to(dtype), WeightQuantSpec(4))
        assert got.dtype == dtype
        assert torch.equal(got, w.to(dtype))


def test_group_that_does_not_divide_is_refused_with_what_to_do():
    with pytest.raises(BadSpec, match="group size 128 does not divide in_features 576"):
        fake_quantize_weight(torch.zeros(4, 576), WeightQuantSpec(4, "group", 128))
    with pytest.raises(BadSpec, match="out_features"):
        fake_quantize_weight(torch.zeros(4), WeightQuantSpec(4))


@pytest.mark.parametrize("bits", [4, 8])
def test_full_range_groups_are_compressed_tensors_w4a16(bits):
    pytest.importorskip("compressed_tensors")
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.utils.helpers import calculate_qparams

    w = weight(4, 8, 256).float()
    groups = w.view(8, 2, 128)
    args = QuantizationArgs(num_bits=bits, strategy="group", group_size=128, symmetric=True)
    scale, zero = calculate_qparams(groups.amin(-1), groups.amax(-1), args)
    assert not zero.any()
    u = groups / scale[..., None]
    expected = u.round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * scale[..., None]
    got = fake_quantize_weight(w, WeightQuantSpec(bits, "group", 128, full_range=True)).view_as(groups)
    tie = (u + 2 ** (bits - 1) - 0.5).abs() < 1e-4  # the negative extreme: float noise decides there
    assert torch.allclose(got[~tie], expected[~tie], rtol=1e-6, atol=0)
    assert torch.allclose((got - groups).abs(), (expected - groups).abs(), atol=1e-5)


def test_full_range_sends_a_negative_extreme_to_the_lowest_level_at_every_scale():
    """-absmax / step is -(qmax + 1/2), a tie; deciding it by rounding noise would break Q(g w) = g Q(w)."""
    for g in torch.logspace(-3, 3, 97, dtype=torch.float64):
        w = torch.tensor([[-1.0, 0.3, 0.9]], dtype=torch.float64) * g
        for bits in range(2, 9):
            got = fake_quantize_weight(w, WeightQuantSpec(bits, full_range=True))
            step = g / (2 ** (bits - 1) - 0.5)
            assert got[0, 0].item() == pytest.approx(-(2 ** (bits - 1)) * step.item(), rel=1e-12)
