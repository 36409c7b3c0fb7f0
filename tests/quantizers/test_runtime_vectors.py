"""Caches against what the runtimes' own code gave back for the same keys (tests/quantizers/vectors)."""

import bisect
import math
from statistics import NormalDist

import numpy as np
import pytest
import torch

from qroar_core.quantizers.fake_quantize import calibrated_coordinates, fake_quantize
from qroar_core.quantizers.grids.lloyd_max import centroids
from qroar_core.quantizers.presets import KV_PRESETS
from tests.quantizers.test_fake_quantize import float8_values
from tests.quantizers.vectors.drawn import given_back, keys

E4M3 = float8_values(4, 3, 448.0)
TURBO = ("4bit_nc", "k3v4_nc", "3bit_nc")


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_mlx_is_bit_equal(bits):
    theirs = torch.from_numpy(given_back("mlx")[f"mlx{bits}"])
    assert torch.equal(fake_quantize(keys(), KV_PRESETS[f"mlx{bits}"].k), theirs)
    assert KV_PRESETS[f"mlx{bits}"].bytes_per_token(128) == 2 * (16 * bits + 2 * 4)  # a scale and a bias per 64


# --- vLLM: its Triton kernels, interpreted --------------------------------------------------------------


def test_int8_per_token_head_is_bit_equal():
    theirs = torch.from_numpy(given_back("vllm")["int8_per_token_head"])
    assert torch.equal(fake_quantize(keys(), KV_PRESETS["int8_per_token_head"].k), theirs)
    assert KV_PRESETS["int8_per_token_head"].bytes_per_token(128) == 2 * (128 + 4)


def test_int8_adds_a_half_before_it_cuts():
    """absmax 254 makes the step 2: odd numbers are ties, and all of them go away from zero."""
    x = torch.tensor([[[254.0, 1.0, -1.0, 99.0, -99.0, 3.0]]])
    assert fake_quantize(x, KV_PRESETS["int8_per_token_head"].k)[0, 0].tolist() == [
        254.0,
        2.0,
        -2.0,
        100.0,
        -100.0,
        4.0,
    ]


def test_fp8_per_token_head_by_search():
    """The largest number becomes 448; every other the nearest of e4m3's. Ties are test_fake_quantize.py's."""
    x = keys(6)
    got = fake_quantize(x, KV_PRESETS["fp8_per_token_head"].k)
    for token, back in zip(x.reshape(-1, 128), got.reshape(-1, 128), strict=True):
        scale = token.abs().max() / 448
        for scaled, level in zip((token * (1 / scale)).tolist(), (back / scale).tolist(), strict=True):
            at = bisect.bisect_left(E4M3, scaled)
            near = E4M3[max(at - 1, 0) : at + 1]
            least = min(abs(number - scaled) for number in near)
            assert min(abs(level - number) for number in near if abs(number - scaled) == least) <= 1e-6 * abs(scaled)
    assert KV_PRESETS["fp8_per_token_head"].bytes_per_token(128) == 2 * (128 + 4)


@pytest.mark.parametrize("name", ["k8v4", *TURBO])
def test_turboquant_v_is_bit_equal(name):
    """vLLM's reading kernel gives every number back in float16."""
    theirs = torch.from_numpy(given_back("vllm")[f"turboquant_{name}.v"])
    assert torch.equal(fake_quantize(keys(), KV_PRESETS[f"turboquant_{name}"].v).half().float(), theirs)


@pytest.mark.parametrize("name", TURBO)
def test_turboquant_k_has_vllms_codes_and_norm(name):
    """On the rotated axes, to the float16 that vLLM's reading kernel gives back; no two levels are as near.

    But for one token of whole numbers, whose rotation is zero in many channels: zero lies midway between two levels,
    and rounding of the sums decides.
    """
    spec = KV_PRESETS[f"turboquant_{name}"].k
    ours = calibrated_coordinates(fake_quantize(keys(), spec), spec)
    theirs = torch.from_numpy(given_back("vllm")[f"turboquant_{name}.k"])
    apart = ((ours - theirs).abs() / theirs.abs().amax(-1, keepdim=True)).amax(-1)
    apart[0, 2] = 0
    assert apart.max() < 2.0**-11


@pytest.mark.parametrize("bits", [3, 4])
def test_levels_are_vllms_and_each_is_the_mean_of_its_cell(bits):
    ours = np.array(centroids(128, bits), dtype=np.float32)
    assert np.array_equal(ours, given_back("vllm")[f"centroids{bits}"])
    normal = NormalDist(0, 1 / math.sqrt(128))
    edges = [-math.inf, *((ours[:-1].astype(float) + ours[1:]) / 2), math.inf]
    for level, low, high in zip(ours, edges, edges[1:], strict=False):
        density = [normal.pdf(edge) if math.isfinite(edge) else 0.0 for edge in (low, high)]
        mass = normal.cdf(high) - normal.cdf(low)
        assert level == pytest.approx((density[0] - density[1]) / 128 / mass, rel=2e-3)


@pytest.mark.parametrize(("name", "size"), [("k8v4", 196), ("4bit_nc", 134), ("k3v4_nc", 118), ("3bit_nc", 102)])
def test_turboquant_memory_is_its_slot(name, size):
    """turboquant/config.py key_packed_size + value_packed_size at head_dim 128."""
    assert KV_PRESETS[f"turboquant_{name}"].bytes_per_token(128) == size


def test_turboquant_keeps_every_norm():
    x = keys()
    got = fake_quantize(x, KV_PRESETS["turboquant_3bit_nc"].k)
    assert torch.allclose(got.norm(dim=-1), x.norm(dim=-1), rtol=2.0**-10)


# --- OpenVINO: the states of its own cache -----------------------------------------------------------------


def apart(got, theirs, step):
    """Share of the numbers that have another code, which must be the neighbour's."""
    error = (got - theirs).abs() / step
    assert error.max() < 1.01
    return (error > 0.01).double().mean()


def test_openvino_u8_by_token():
    x, spec = keys(), KV_PRESETS["ov_u8"].k
    theirs = torch.from_numpy(given_back("openvino")["ov_u8"])
    step = (x.amax(-1, keepdim=True) - x.amin(-1, keepdim=True)) / 255
    assert apart(fake_quantize(x, spec), theirs, step) < 2e-3  # it adds a zero point where a minimum is subtracted here
    assert KV_PRESETS["ov_u8"].bytes_per_token(128) == 2 * (128 + 8)


def test_openvino_u8_by_channel():
    x, preset, theirs = keys(128), KV_PRESETS["ov_u8_channel"], given_back("openvino")
    for spec, name, dim in ((preset.k, "ov_u8_channel.k", 1), (preset.v, "ov_u8_channel.v", 2)):
        step = (x.amax(dim, keepdim=True) - x.amin(dim, keepdim=True)).expand_as(x)[..., ::8] / 255
        assert apart(fake_quantize(x, spec)[..., ::8], torch.from_numpy(theirs[name]), step) < 2e-3


@pytest.mark.parametrize(("k", "v", "name"), [("ov_u4", "ov_u4", "ov_u4.read"), ("ov_u8", "ov_u4", "ov_u8_u4.read")])
def test_openvino_u4_as_its_attention_reads_it(k, v, name):
    x = keys() / 8
    scores = x[:, -1:].double() @ fake_quantize(x, KV_PRESETS[k].k).double().transpose(1, 2) / math.sqrt(128)
    read = scores.softmax(-1) @ fake_quantize(x, KV_PRESETS[v].v).double()
    theirs = torch.from_numpy(given_back("openvino")[name]).double()
    assert (read - theirs).abs().max() < 1e-5 * theirs.abs().max()
    exact = (x[:, -1:].double() @ x.double().transpose(1, 2) / math.sqrt(128)).softmax(-1) @ x.double()
    assert (exact - theirs).abs().max() > 1e-3 * theirs.abs().max()  # the cache is what differs


# --- HQQ ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_hqq_has_hqqs_codes_and_zero(bits):
    """To the rounding of sums in float32; a step is 1/255 of a set's range or more."""
    theirs = torch.from_numpy(given_back("hqq")[f"hqq{bits}"])
    sets = keys().reshape(-1, 64)
    span = (sets.amax(-1) - sets.amin(-1)).view(2, 16, 2).repeat_interleave(64, -1)
    error = (fake_quantize(keys(), KV_PRESETS[f"hqq{bits}"].k) - theirs).abs()
    assert (error <= 1e-5 * span).all()
    plain = (fake_quantize(keys(), KV_PRESETS["quanto4"].k) - theirs).abs()  # without the iterations
    assert bits != 4 or (plain > 1e-2 * span).double().mean() > 0.3
