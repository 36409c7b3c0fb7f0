"""Clipped ranges against numpy in float64: every level of the clipped range tried for every number."""

import numpy as np
import pytest
import torch

from qroar_core.errors import BadSpec
from qroar_core.quantizers.fake_quantize import fake_quantize, fake_quantize_ste
from qroar_core.specs import QuantizerSpec

RATIOS = (0.5, 0.85, 1.0)


def nearest(values, bits, ratio):
    """A list of numbers on the 2^bits - 1 even levels between plus and minus a share of its largest magnitude."""
    most = 2 ** (bits - 1) - 1
    levels = ratio * np.abs(values).max() / most * np.arange(-most, most + 1)
    return levels[np.abs(values[:, None] - levels).argmin(1)]


def drawn(dtype=torch.float64):
    x = torch.randn(2, 3, 5, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[..., 3] *= 6
    return x.to(dtype)


def by_hand(x, bits, size):
    """x (batch, heads, tokens, head_dim) in blocks of `size` channels, each head by its own ratio."""
    out = np.empty_like(x)
    for batch, head, token, block in np.ndindex(*x.shape[:3], x.shape[3] // size):
        here = batch, head, token, slice(block * size, (block + 1) * size)
        out[here] = nearest(x[here], bits, RATIOS[head])
    return out


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(
    ("scale", "group_size", "size"), [("token", None, 16), ("block", 8, 8)], ids=["token", "block"]
)
def test_beyond_the_clipped_range_values_saturate(bits, scale, group_size, size):
    x, clip = drawn(), torch.tensor(RATIOS, dtype=torch.float64)[:, None, None]
    found = fake_quantize(x, QuantizerSpec(bits, scale, group_size=group_size), clip=clip)
    assert np.allclose(found.numpy(), by_hand(x.numpy(), bits, size), atol=1e-12)
    assert torch.equal(fake_quantize_ste(x, QuantizerSpec(bits, scale, group_size=group_size), clip=clip), found)


@pytest.mark.parametrize("scale_dtype", ["float32", "float16"])
def test_the_whole_range_is_the_quantizer_as_it_is(scale_dtype):
    x, spec = drawn(torch.float32), QuantizerSpec(4, scale_dtype=scale_dtype)
    assert torch.equal(fake_quantize(x, spec, clip=torch.tensor(1.0)), fake_quantize(x, spec))


def test_zeros_stay_zero():
    assert not fake_quantize(torch.zeros(1, 2, 8), QuantizerSpec(4), clip=torch.tensor(0.5)).any()


@pytest.mark.parametrize(
    "spec",
    [
        QuantizerSpec(4, "channel", group_size=2),
        QuantizerSpec(8, "tensor", static_scale=1.0),
        QuantizerSpec(4, levels="affine"),
        QuantizerSpec(4, "block", "ggml_signed", 16),
        QuantizerSpec(8, levels="e4m3"),
    ],
    ids=str,
)
def test_other_quantizers_take_no_ratio(spec):
    assert not spec.takes_clip
    with pytest.raises(BadSpec, match="symmetric integers with a scale per token or block"):
        fake_quantize(drawn(), spec, clip=torch.tensor(0.9))
