"""Caches of runtimes without a CPU build, against their source's own words in numpy."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from qroar_core.quantizers.fake_quantize import fake_quantize
from qroar_core.quantizers.presets import KV_PRESETS
from tests.quantizers.vectors.drawn import keys


def hadamard(width):
    return np.array([[(-1.0) ** bin(i & j).count("1") for j in range(width)] for i in range(width)])


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 8])
def test_exllamav3(bits):
    """quant_block_x4 and dequant_block_x4 in float32: rotate 32, scale, floor to a cell; the middle, rotated back."""
    f32 = np.float32
    x = keys().half().float()
    groups = x.numpy().reshape(-1, 32)
    h = hadamard(32).astype(f32)
    turned = (groups.astype(np.float64) @ h).astype(f32) * f32(0.17677669529663688110)
    reach = np.abs(turned).max(1, keepdims=True) + f32(1e-10)
    half = f32(2 ** (bits - 1))
    codes = np.clip(np.floor(turned * (f32(1) / reach) * half + half), 0, 2**bits - 1)
    stored = reach.astype(np.float16).astype(f32)
    read = (codes - (half - f32(0.5))) * (stored / half)
    expected = (read.astype(np.float64) @ h) * 0.17677669529663688110
    got = fake_quantize(x, KV_PRESETS[f"exl{bits}"].k).numpy().reshape(-1, 32)
    apart = (np.abs(got - expected).max(1) / (np.abs(expected).max(1) + 1e-30)).reshape(2, 16, 4)
    apart[0, 2] = 0  # whole numbers whose rotation is zero in many channels: rounding of a sum decides the cell
    assert apart.max() < 1e-5
    assert KV_PRESETS[f"exl{bits}"].bytes_per_token(128) == 2 * (16 * bits + 4 * 2)


def test_exllamav3_has_no_zero():
    x = torch.zeros(1, 1, 32)
    x[..., 0] = 1.0
    spec = KV_PRESETS["exl2"].k
    got = fake_quantize(x, spec)
    assert torch.allclose(got, 0.75 * x, atol=1e-3)  # H x is one number everywhere: it is read as 3/4 of the largest


@pytest.mark.parametrize("bits", [4, 8])
def test_lmdeploy_turbomind(bits):
    """warp_stats and quantize, in float32 and as the kernel does it in half precision."""
    x = keys().half()
    rows, top = x.numpy().reshape(-1, 128), 2**bits - 1
    low, high = rows.min(1, keepdims=True), rows.max(1, keepdims=True)
    f32 = np.float32
    scale = ((high.astype(f32) - low.astype(f32)) * f32(1 / top)).astype(np.float16)
    with np.errstate(divide="ignore", invalid="ignore"):
        exact = np.rint((rows.astype(f32) - low.astype(f32)) / scale.astype(f32))
        half = np.rint((rows - low) * (f32(1) / scale.astype(f32)).astype(np.float16))
    spec = replace(KV_PRESETS[f"lmdeploy{bits}"].k, scale_dtype="float16")  # the model's dtype, named
    got = fake_quantize(x.float(), spec).numpy().reshape(-1, 128)
    for codes, differing in ((exact, 2e-3), (half, 0.02 if bits == 4 else 0.06)):
        read = np.clip(np.nan_to_num(codes), 0, top) * scale.astype(f32) + low.astype(f32)
        assert (np.abs(got - read) > 1e-6 * np.abs(rows).max()).mean() <= differing
        assert (np.abs(got - read) <= scale.astype(f32) * 1.01 + 1e-6).all()  # the neighbour at most
    assert KV_PRESETS[f"lmdeploy{bits}"].bytes_per_token(128) == 2 * (16 * bits + 4)
