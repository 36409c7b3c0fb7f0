"""What a K bias does to each cache, against arithmetic on one token and against the other presets."""

import math

import pytest
import torch

from qroar_core.quantizers.large_bias import HEAD_DIM, HEADS, LEAST, MOST, PAIR, SEED, TOKENS, bias_words, damage
from qroar_core.quantizers.memory import bytes_per_token
from qroar_core.quantizers.preset import memory_words
from qroar_core.quantizers.presets import KV_PRESETS
from qroar_core.specs import QuantizerSpec


def test_int4_per_token_keeps_nothing_of_what_differs():
    """The step is bias / 7, 14 or more: everything else rounds to zero, and the constants to one level."""
    found = damage(QuantizerSpec(4))
    assert found.varying == pytest.approx(1.0, abs=0.02)
    assert found.whole == pytest.approx(1.0 / math.sqrt(1 + norm_of_constants()), rel=0.05)
    assert found.plain < 0.12


def norm_of_constants():
    """Mean square of the constants over all channels."""
    return sum(c * c for c in torch.linspace(LEAST, MOST, HEADS).tolist()) / HEADS * len(PAIR) / HEAD_DIM


def test_int8_per_token_rounds_with_the_biass_step():
    """Uniform errors of step bias / 127, but for the constants, whose own change is rounded as well."""
    steps = [c / 127 for c in torch.linspace(LEAST, MOST, HEADS).tolist()]
    expected = math.sqrt(sum(step * step for step in steps) / HEADS / 12)
    assert damage(QuantizerSpec(8)).varying == pytest.approx(expected, rel=0.1)


def test_an_error_that_every_token_has_is_not_counted():
    """An 8-bit float puts all of 150 +- 1 on few levels: most of that error is one constant, which softmax drops."""
    keys = torch.randn(HEADS, TOKENS, HEAD_DIM, generator=torch.Generator().manual_seed(SEED))
    keys[..., PAIR] += torch.linspace(LEAST, MOST, HEADS)[:, None, None]
    error = (keys.to(torch.float8_e4m3fn).float() - keys).double().numpy()
    varies = keys.double().numpy().var(1).mean()
    assert damage(KV_PRESETS["fp8"].k).varying == pytest.approx(math.sqrt(error.var(1).mean() / varies), rel=1e-5)
    assert error.var(1).mean() < 0.9 * (error**2).mean()


def test_a_scale_per_channel_takes_the_constant_out():
    kivi = damage(KV_PRESETS["kivi2"].k)
    assert kivi.varying == pytest.approx(kivi.plain, rel=0.02)


def test_a_rotation_spreads_the_constant_and_a_norm_hides_it():
    """Unrotated blocks lose one of four blocks; rotated, every block of them; TurboQuant's K all of it and more."""
    plain, rotated, turbo = (damage(KV_PRESETS[name].k) for name in ("q4_0-norot", "q4_0", "turboquant_4bit_nc"))
    assert plain.varying == pytest.approx(0.5, abs=0.03)  # sqrt(1/4): llama.cpp's order puts the pair into one block
    assert rotated.varying > 1.5
    assert turbo.varying > 3
    assert max(rotated.whole, turbo.whole) < 0.13
    assert max(rotated.plain, turbo.plain) < 0.1


def test_words():
    words = bias_words(KV_PRESETS["q4_0"].k)
    found = damage(KV_PRESETS["q4_0"].k)
    for value in (f"{found.varying:.0%}", f"{found.whole:.1%}", f"{found.plain:.1%}", "100 to 300"):
        assert value in words
    assert (
        memory_words(KV_PRESETS["q4_0"])
        == "144 bytes of K and V for a token and KV head of 128 channels, 28% of 16 bits."
    )


@pytest.mark.parametrize(
    ("spec", "size"),
    [
        (None, 128 * 2),
        (QuantizerSpec(4), 64 + 4),
        (QuantizerSpec(3, levels="affine", scale_dtype="input"), 48 + 2 * 2),
        (QuantizerSpec(4, "block", group_size=32, scale_dtype="bfloat16"), 64 + 4 * 2),
        (QuantizerSpec(2, "channel", "affine", 32, scale_dtype="float16"), 32 + 128 * 4 / 32),
        (QuantizerSpec(8, "tensor", "e4m3"), 128),
    ],
    ids=str,
)
def test_memory_by_hand(spec, size):
    assert bytes_per_token(spec, 128) == size
