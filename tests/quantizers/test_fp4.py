"""FP4 caches: a search over the sixteen numbers in Python, compressed-tensors' own code, MLX's own NVFP4."""

import math

import pytest
import torch

from qroar_core.quantizers.fake_quantize import fake_quantize
from qroar_core.quantizers.presets import KV_PRESETS
from qroar_core.quantizers.steps import squared_step
from tests.quantizers.test_fake_quantize import float8_values
from tests.quantizers.vectors.drawn import given_back, keys

MAGNITUDES = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]  # even places have an even mantissa
E4M3 = [value for value in float8_values(4, 3, 448.0) if value >= 0]
PRESETS = ("nvfp4", "trtllm_nvfp4", "mxfp4", "sglang_fp4")


def nearest(size, ties):
    """The magnitude next to `size`; of two as near, the one with an even mantissa, or the larger."""
    gap = min(abs(size - m) for m in MAGNITUDES)
    near = [at for at, m in enumerate(MAGNITUDES) if abs(size - m) == gap]
    return MAGNITUDES[near[-1] if ties == "away" else next((at for at in near if at % 2 == 0), near[0])]


def e4m3_even(value):
    """The e4m3 number next to a positive value; of two as near, the one whose last bit is 0."""
    value = min(value, 448.0)
    gap = min(abs(value - v) for v in E4M3)
    near = [at for at, v in enumerate(E4M3) if abs(value - v) == gap]
    return E4M3[next((at for at in near if at % 2 == 0), near[0])]


def f32(value):
    return torch.tensor(value, dtype=torch.float32).item()


def scale_of(preset, largest):
    """A block's scale, by each source's own words."""
    if preset in ("nvfp4", "trtllm_nvfp4"):
        return e4m3_even(f32(largest / 6))
    if preset == "sglang_fp4":
        return 2.0 ** math.ceil(math.log2(max(f32(largest / 6), 1e-10)))
    if not largest:
        return 0.0
    exponent = math.floor(math.log2(largest))
    return 2.0 ** (exponent + (largest / 2.0**exponent >= 1.75) - 2)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_block_by_search(preset):
    spec, x = KV_PRESETS[preset].k, keys(8)
    got, step = fake_quantize(x, spec), squared_step(x, spec).sqrt()
    ties = "away" if preset == "sglang_fp4" else "even"
    for block, rounded, gaps in zip(*(t.reshape(-1, spec.group_size).tolist() for t in (x, got, step)), strict=True):
        scale = scale_of(preset, max(map(abs, block)))
        for value, back, gap in zip(block, rounded, gaps, strict=True):
            size = f32(abs(value) / scale) if scale else 0.0
            assert back == math.copysign(nearest(min(size, 6.0), ties) * scale, value)
            assert gap == scale * (0.5 if size < 2 else 1.0 if size < 4 else 2.0)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_tie(preset):
    """A block whose scale is 1 and whose other numbers lie midway between two levels."""
    ties = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0]
    expected = {"away": [0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0], "even": [0.0, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0]}
    block = torch.tensor([6.0, *ties, *(-tie for tie in ties), 0.0] * 2).view(1, 1, 32)
    got = fake_quantize(block, KV_PRESETS[preset].k)[0, 0]
    want = expected["away" if preset == "sglang_fp4" else "even"]
    assert got[:16].tolist() == [6.0, *want, *(-value for value in want), 0.0]


def test_nvfp4_is_mlxs_own_but_at_ties():
    """MLX's quantize in mode nvfp4 takes the first of two levels as near, the hardware the even one."""
    x, preset = keys(), KV_PRESETS["nvfp4"].k
    got, theirs = fake_quantize(x, preset), torch.from_numpy(given_back("mlx")["nvfp4"])
    differ = got != theirs
    assert differ.sum() == 18
    midway = (got + theirs) / 2
    assert torch.equal(midway[differ], x[differ])
    assert (got[differ].abs() > theirs[differ].abs()).all()


def test_mxfp4_is_compressed_tensors_own():
    theirs = torch.from_numpy(given_back("compressed_tensors")["mxfp4"])
    assert torch.equal(fake_quantize(keys(), KV_PRESETS["mxfp4"].k), theirs)


@pytest.mark.parametrize("preset", PRESETS)
def test_memory(preset):
    """Half a byte a number and a byte a block."""
    block = 32 if preset == "mxfp4" else 16
    assert KV_PRESETS[preset].bytes_per_token(128) == 2 * (64 + 128 / block)


def test_nvfp4_saturates_at_its_largest_scale():
    x = torch.full((1, 1, 16), 5000.0)
    x[..., 1] = -700.0
    assert fake_quantize(x, KV_PRESETS["nvfp4"].k)[0, 0, :2].tolist() == [448 * 6.0, -448 * 1.5]


def test_nvfp4_loses_a_block_that_its_scale_cannot_hold():
    x = torch.full((1, 1, 32), 0.005)
    x[..., 16:] = 0.01
    got = fake_quantize(x, KV_PRESETS["nvfp4"].k)
    assert not got[..., :16].any()
    assert (got[..., 16:] > 0).all()
