"""Attention over a cache, block by block, against a float64 softmax over all keys."""

import pytest
import torch

from qroar_core.maths.softmax_rule import USUAL_SOFTMAX, SoftmaxRule
from qroar_core.models import attention
from qroar_core.models.attention import causal_block, rows_at_once

HEADS, KV, KEYS = 6, 2, 50


def tensors(value_dim=8, dtype=torch.float64):
    make = torch.Generator().manual_seed(3)
    q = torch.randn(2, KEYS, HEADS, 8, generator=make, dtype=torch.float64).transpose(1, 2)  # strides as a model's
    k, v = (torch.randn(2, KV, KEYS, d, generator=make, dtype=torch.float64) for d in (8, value_dim))
    return (x.to(dtype) for x in (3 * q, k, v))


def whole(q, k, v, window=None):
    """Every query head with its KV head, plainly."""
    k, v = (x.double().repeat_interleave(HEADS // KV, 1) for x in (k, v))
    logits = 0.3 * q.double() @ k.mT
    distance = torch.arange(KEYS)[:, None] - torch.arange(KEYS)
    hidden = (distance < 0) if window is None else (distance < 0) | (distance >= window)
    return logits.masked_fill(hidden, -torch.inf).softmax(-1) @ v


@pytest.mark.parametrize("masked", [False, True], ids=["apart", "mask"])
@pytest.mark.parametrize("rows", [1, 7, 23])
@pytest.mark.parametrize("first", [0, 1, 20])
def test_a_block_equals_its_rows_of_the_whole(monkeypatch, masked, rows, first):
    if masked:
        monkeypatch.setattr(attention, "kernel_for", lambda q, k, v: None)
    q, k, v = tensors()
    stop = first + rows
    got = causal_block(q[:, :, first:stop], k[:, :, :stop], v[:, :, :stop], first, 0.3, USUAL_SOFTMAX)
    torch.testing.assert_close(got, whole(q, k, v)[:, :, first:stop], rtol=0, atol=1e-13)


@pytest.mark.parametrize(("value_dim", "window"), [(4, None), (8, 9), (8, 1)])
def test_where_a_mask_is_needed(value_dim, window):
    """Values of another width than keys (MLA), and sliding windows."""
    q, k, v = tensors(value_dim)
    rule = SoftmaxRule(window=window)
    got = causal_block(q[:, :, 20:43], k[:, :, :43], v[:, :, :43], 20, 0.3, rule)
    torch.testing.assert_close(got, whole(q, k, v, window)[:, :, 20:43], rtol=0, atol=1e-13)
    assert rows_at_once(q, k, v, KEYS, rule) == attention.MASK_ENTRIES // (KEYS * HEADS // KV)


def test_no_mask_takes_the_whole_chunk_at_once(monkeypatch):
    monkeypatch.setattr(attention, "MASK_ENTRIES", 1)
    q, k, v = tensors()
    assert rows_at_once(q, k, v, KEYS, USUAL_SOFTMAX) == KEYS
    assert rows_at_once(q, k, v, KEYS, SoftmaxRule(window=5)) == 1


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 2e-6), (torch.bfloat16, 3e-2)])
def test_narrow_types_stay_within_their_rounding(dtype, bound):
    q, k, v = tensors(dtype=dtype)
    got = causal_block(q[:, :, 20:43], k[:, :, :43], v[:, :, :43], 20, 0.3, USUAL_SOFTMAX)
    assert got.dtype == dtype
    assert float((got.double() - whole(q, k, v)[:, :, 20:43]).abs().max()) < bound


def test_logits_far_apart_lose_nothing():
    """Early keys that win by hundreds of nats, and own ones that do: the weight saturates, without overflow."""
    q, k, v = tensors()
    for high in (slice(0, 20), slice(20, 43)):
        loud = k.clone()
        loud[:, :, high] *= 300
        got = causal_block(q[:, :, 20:43], loud[:, :, :43], v[:, :, :43], 20, 0.3, USUAL_SOFTMAX)
        torch.testing.assert_close(got, whole(q, loud, v)[:, :, 20:43], rtol=0, atol=1e-11)
