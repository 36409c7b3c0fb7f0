"""What a huge constant in K does to what varies between tokens: the K biases of Qwen2 and Qwen2.5, shown on any cache.

Those models have biases of W_K in the hundreds on a few channels, where everything else in K is of size 1. A scale that
such a channel shares becomes coarse for all of its channels. A constant that every token has adds the same to every
logit of a row, so softmax sees only what differs between tokens; an error is counted likewise. It is measured as a
share of what differs, and as a share of |K|: the constant makes the norm, so the second stays small whatever is lost.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from qroar_core.quantizers.spec import QuantizerSpec

if TYPE_CHECKING:
    from torch import Tensor

HEADS, TOKENS, HEAD_DIM = 8, 128, 128
LEAST, MOST = 100.0, 300.0  # the constants; a head each
PAIR = (63, 127)  # of the slowest RoPE pair, which does not turn within so few tokens (half pairing)
SEED = 0


class Damage(NamedTuple):
    """RMS errors of K under one quantizer."""

    plain: float  # of normal keys, as a share of them
    varying: float  # with the constant: the error that differs between tokens, as a share of what differs in K
    whole: float  # the same error as a share of all of K


@lru_cache(maxsize=256)
def damage(spec: QuantizerSpec) -> Damage:
    """Errors of drawn keys, (HEADS, TOKENS, HEAD_DIM), deviation 1, without and with a constant on one RoPE pair."""
    import torch

    keys = torch.randn(HEADS, TOKENS, HEAD_DIM, generator=torch.Generator().manual_seed(SEED))
    biased = keys.clone()
    biased[..., PAIR] += torch.linspace(LEAST, MOST, HEADS)[:, None, None]
    error = _error(biased, spec)
    error -= error.mean(1, keepdim=True)
    return Damage(
        _rms(_error(keys, spec)) / _rms(keys),
        _rms(error) / _rms(biased - biased.mean(1, keepdim=True)),
        _rms(error) / _rms(biased),
    )


def bias_words(spec: QuantizerSpec) -> str:
    """`With a K bias of 100 to 300 (Qwen2, Qwen2.5) K's error is 76% of what differs between tokens, 3% of all.`"""
    found = damage(spec)
    return (
        f"With a K bias of {LEAST:g} to {MOST:g}, as Qwen2 and Qwen2.5 have, the error of K is {found.varying:.0%} of "
        f"what differs between tokens, though {found.whole:.1%} of all of K; without one it is {found.plain:.1%}."
    )


def _error(x: Tensor, spec: QuantizerSpec) -> Tensor:
    from qroar_core.quantizers.fake_quantize import calibrated_coordinates, fake_quantize

    absmax = calibrated_coordinates(x, spec).abs().amax() if spec.needs_calibration else None
    return fake_quantize(x, spec, absmax=absmax) - x


def _rms(x: Tensor) -> float:
    return float(x.double().square().mean().sqrt())
