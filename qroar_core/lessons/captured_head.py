"""Real q and k of one attention head of the demo model, for the lessons that count what rounding K costs.

They come with the dashboard (assets/learn, made by its build.py), so that Learn needs no model.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from safetensors.torch import load_file
from torch import Tensor

from qroar_core.bundled import ASSETS
from qroar_core.interpolations.tie import Tie
from qroar_core.lessons.heads import HEADS, interpolated
from qroar_core.maths.rope import cos_sin, rotate
from qroar_core.quantizers.fake_quantize import fake_quantize
from qroar_core.specs import QuantizerSpec

FILE = ASSETS / "learn" / "demo_head.safetensors"
DEMO = HEADS[-1]
FACTOR = 4.0  # of YaRN, under which the head was read
LAYER, KV_HEAD = 1, 0
INT4 = QuantizerSpec(4)


@dataclass(frozen=True, slots=True, eq=False)
class CapturedHead:
    """Before RoPE, float32: q (rows, head_dim) at positions `rows`, k (tokens, head_dim) at positions 0, 1, ..."""

    q: Tensor
    rows: Tensor
    k: Tensor

    def first(self, length: int) -> CapturedHead:
        """What lies among the first `length` tokens."""
        here = self.rows < length
        return CapturedHead(self.q[here], self.rows[here], self.k[:length])


@lru_cache(1)
def captured_head() -> CapturedHead:
    """The head as it comes with the dashboard; rows of both query heads that read it, one after the other."""
    found = load_file(FILE)
    q, rows = found["q"].float(), found["rows"]
    return CapturedHead(q.flatten(0, 1), rows.repeat(len(q)), found["k"].float())


def frequencies(tie: tuple[Tie, ...] = ()) -> tuple[Tensor, float]:
    """omega_i of the head, rad/token, float64, (pairs,), with these pairs tied; the attention factor."""
    rope = interpolated(DEMO, "yarn", FACTOR, tie)
    return rope.inv_freq.double(), rope.attention_factor


def rotated(head: CapturedHead, q: Tensor, k: Tensor, tie: tuple[Tie, ...]) -> tuple[Tensor, Tensor]:
    """q (..., rows, head_dim) and k (..., tokens, head_dim) of `head` after RoPE."""
    inv_freq, factor = frequencies(tie)
    positions = torch.arange(len(head.k))
    turned = (cos_sin(inv_freq, at, factor) for at in (head.rows, positions))
    return tuple(  # type: ignore[return-value]
        rotate(x, cos.to(x.dtype), sin.to(x.dtype), "half") for x, (cos, sin) in zip((q, k), turned, strict=True)
    )


def logits(head: CapturedHead, q: Tensor, k: Tensor) -> Tensor:
    """Logits of rotated q and k, 0 where a row does not see the key, less each row's mean; (..., rows, tokens).

    A number that is the same for all keys of a row changes no attention, so errors are counted without it.
    """
    seen = head.rows[:, None] >= torch.arange(len(head.k))
    scores = (q @ k.mT) * q.shape[-1] ** -0.5 * seen
    return (scores - scores.sum(-1, keepdim=True) / seen.sum(-1, keepdim=True)) * seen


def share(moved: Tensor, exact: Tensor) -> Tensor:
    """RMS of moved - exact as a share of the RMS of exact, over the last two axes."""
    return ((moved - exact).square().mean((-2, -1)) / exact.square().mean((-2, -1))).sqrt()


def int4(k: Tensor) -> Tensor:
    """Rotated k as a cache of 4 bits gives it back: symmetric integers, one scale per token."""
    return fake_quantize(k, INT4)
