"""llama.cpp's cache types against llama.cpp itself: the functions of its library that quantize and dequantize rows."""

import ctypes
from pathlib import Path

import numpy as np
import pytest
import torch

from qroar_core.quantizers.fake_quantize import fake_quantize
from qroar_core.quantizers.presets import KV_PRESETS, RUNTIMES
from qroar_core.quantizers.steps import ends_of, squared_step

BYTES = {"q4_0": 18, "q4_1": 20, "q5_0": 22, "q5_1": 24, "q8_0": 34, "iq4_nl": 18}  # a block of 32: ggml-common.h


@pytest.fixture(scope="module")
def library():
    xllamacpp = pytest.importorskip("xllamacpp")
    return ctypes.CDLL(str(next(Path(xllamacpp.__file__).parent.glob("*.so"))))


def stored_by(library, x, kind, form="_ref"):
    """Bytes of the blocks, (blocks, bytes), and what they are read as, like x."""
    flat = np.ascontiguousarray(x.reshape(-1).numpy(), dtype=np.float32)
    packed = np.zeros((flat.size // 32, BYTES[kind]), np.uint8)
    read = np.empty_like(flat)
    pairs = ((f"quantize_row_{kind}{form}", flat, packed), (f"dequantize_row_{kind}", packed, read))
    for name, source, target in pairs:
        call = getattr(library, name)
        call.restype = None
        call(ctypes.c_void_p(source.ctypes.data), ctypes.c_void_p(target.ctypes.data), ctypes.c_int64(flat.size))
    return packed, torch.from_numpy(read).view(x.shape)


def keys(seed, head_dim=96):
    x = torch.randn(3, 201, head_dim, generator=torch.Generator().manual_seed(seed))
    x[..., 3] *= 8
    x[..., 20] += 5
    x[0, 5] = 0
    return x


@pytest.mark.parametrize("scale", [1.0, 1e-4, 600.0, 1e-9])
@pytest.mark.parametrize("kind", [kind for kind in BYTES if kind != "iq4_nl"])
def test_a_type_is_bit_equal_with_llama_cpp(library, kind, scale):
    x = keys(0) * scale
    _, expected = stored_by(library, x, kind)
    assert torch.equal(fake_quantize(x, KV_PRESETS[f"{kind}-norot"].v), expected)
    form = "" if kind != "q8_0" else "_ref"  # what the CPU's cache really calls; q8_0's rounds ties to even
    assert torch.equal(stored_by(library, x, kind, form)[1], expected)


@pytest.mark.parametrize("kind", ["q4_1", "q5_1", "q5_0"])
def test_ties_fall_as_in_llama_cpp(library, kind):
    x = (keys(1) * 3).round()
    assert torch.equal(fake_quantize(x, KV_PRESETS[f"{kind}-norot"].v), stored_by(library, x, kind)[1])


@pytest.mark.parametrize("scale", [1.0, 1e-4, 600.0, 1e-9])
def test_iq4_nl_has_llama_cpps_codes_and_its_step_to_one_unit_of_fp16(library, scale):
    """The refitted step is a quotient of two sums of 32 numbers: C adds them one by one, and fp16 seldom sees it."""
    x = keys(2) * scale
    _, expected = stored_by(library, x, "iq4_nl")
    blocks = fake_quantize(x, KV_PRESETS["iq4_nl-norot"].v).view(-1, 32), expected.view(-1, 32)
    same = (blocks[0] == blocks[1]).all(-1)
    assert same.double().mean() > 0.998
    assert torch.allclose(*blocks, rtol=2.0**-10, atol=0)  # another code would be 1/127 or more away


def test_iq4_nl_levels_are_uneven_and_its_ends_are_those_of_the_table():
    levels = torch.tensor([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113.0])
    x = torch.cat([levels, torch.tensor([-120.0, -100.0, 60.0, 62.0]), torch.zeros(12)]).view(1, 1, 32)
    spec = KV_PRESETS["iq4_nl-norot"].v
    gaps = squared_step(x, spec).sqrt()[0, 0]
    step = gaps[16] / 23  # -120 lies between -127 and -104
    assert torch.allclose(gaps[16:20] / step, torch.tensor([23.0, 21.0, 16.0, 16.0]), rtol=1e-5)
    found = ends_of(torch.tensor([[[-127.0, 127.0, 120.0, 0.2] + [0.0] * 28]]), spec)
    assert found.clipped[0, 0, :4].tolist() == [False, True, False, False]  # 113 is the last level, 24 from the next
    assert not found.zeroed.any()  # there is no level at zero: 0.2 is read as 1


@pytest.mark.parametrize("kind", BYTES)
def test_memory_is_what_the_block_takes(kind):
    preset = KV_PRESETS[kind]
    assert preset.bytes_per_token(128) == 2 * 4 * BYTES[kind]
    assert preset.bytes_per_token(64) == 2 * 2 * BYTES[kind]


@pytest.mark.parametrize(("name", "dtype"), [("f16", torch.float16), ("bf16", torch.bfloat16)])
def test_floats_are_a_cast(name, dtype):
    x = keys(3) * 40
    assert torch.equal(fake_quantize(x, KV_PRESETS[name].k), x.to(dtype).float())
    assert KV_PRESETS[name].bytes_per_token(128) == 512


def test_every_type_that_llama_cpp_takes_is_there_rotated_and_not():
    """common/arg.cpp kv_cache_types, but for f32."""
    kinds = {"f16", "bf16", *BYTES}
    assert set(RUNTIMES["llama_cpp"].caches) == kinds | {f"{kind}-norot" for kind in BYTES}
    for kind in BYTES:
        assert KV_PRESETS[kind].k.rotation == KV_PRESETS[kind].v.rotation == "hadamard"
        assert KV_PRESETS[f"{kind}-norot"].k.rotation == KV_PRESETS[f"{kind}-norot"].v.rotation == "none"
        assert (KV_PRESETS[kind].k.channel_order, KV_PRESETS[kind].v.channel_order) == ("interleaved", "model")
