"""Survival curves of |x| against numpy's exact quantiles of the same samples."""

import math

import numpy as np
import torch

from qroar_core.diagnostics.tail_inflation.measure import BandTails

BAND_OF_CHANNEL = torch.tensor([0, 1, 1, -1, 0, 1])  # unequal bands, one channel of none
SHARES = (0.9, 0.5, 0.2, 0.1, 0.05, 0.01, 1e-3, 1e-4)
EPS = 0.01
WINDOWS, HEADS, KV, TOKENS = 3, 4, 2, 250


def filled(x: torch.Tensor, keep: int) -> BandTails:
    tails = BandTails(len(x), KV, BAND_OF_CHANNEL, keep)
    for window, chunk in enumerate(x):
        for part in chunk.split(90, 1):
            tails.add(window, part)
    return tails


def samples(seed: int = 0) -> torch.Tensor:
    """(windows, heads, tokens, head_dim), heavy tails over five decades."""
    g = torch.Generator().manual_seed(seed)
    shape = (WINDOWS, HEADS, TOKENS, len(BAND_OF_CHANNEL))
    x = torch.randn(shape, generator=g) * (1.5 * torch.randn(shape, generator=g)).exp()
    x[..., 3] = 1e6  # belongs nowhere
    return x


def cells(x: torch.Tensor):
    """(KV head, band, its values sorted), from plain indexing."""
    for kv in range(KV):
        for band in range(2):
            channels = [c for c in range(x.shape[-1]) if int(BAND_OF_CHANNEL[c]) == band]
            heads = range(kv * HEADS // KV, (kv + 1) * HEADS // KV)
            yield kv, band, np.sort(np.abs(x[:, list(heads)][..., channels].double().numpy()).ravel())


def test_the_tail_is_exact_and_the_body_within_its_bound():
    x = samples()
    keep = BandTails.kept_for(EPS, TOKENS * HEADS // KV * 3, WINDOWS)
    tails = filled(x, keep)
    found = tails.survival(SHARES)
    assert found.shape == (KV, 2, len(SHARES))
    off = []
    for kv, band, values in cells(x):
        for value, share in zip(found[kv, band].tolist(), SHARES):
            if share * len(values) < 1:
                assert math.isnan(value)
                continue
            exact = float(np.quantile(values, 1 - share, method="inverted_cdf"))
            assert (values > exact).mean() <= share < (values >= exact).mean() + 1e-12
            if share <= EPS:
                assert value == exact
            else:
                off.append(abs(value / exact - 1))
    assert max(off) <= tails.body.relative_bound == 2**-6
    assert max(off) > 2**-9  # the body is a histogram indeed, and the bound is not idle


def test_too_few_entries_for_a_share_give_no_value():
    tails = filled(samples()[:1, :, :10], keep=5)
    found = tails.survival((0.5, 0.05, 0.01))
    assert tails.seen[0, 0].tolist() == [40, 60]
    assert found[:, :, :2].isfinite().all()
    assert found[:, :, 2].isnan().all()


def test_no_quantile_exceeds_one_further_out():
    """Equal values: the histogram's middle of the bin lies above them, the exact tail on them."""
    x = torch.full((1, HEADS, 100, len(BAND_OF_CHANNEL)), 1.0)
    tails = filled(x, keep=10)
    assert float(tails.body.quantile(0.5)[0, 0]) > 1.0
    assert tails.survival((0.9, 0.5, 0.01)).unique().tolist() == [1.0]


def test_equal_samples_give_equal_curves_whatever_the_windows_and_chunks():
    x = samples(1)
    one = x.transpose(0, 1).reshape(1, HEADS, WINDOWS * TOKENS, -1)
    a, b = filled(x, keep=200).survival(SHARES), filled(one, keep=200).survival(SHARES)
    assert torch.equal(a.nan_to_num(-1), b.nan_to_num(-1))
