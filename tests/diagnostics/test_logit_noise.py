"""Logit noise and attention KL against a full attention matrix in float64, which only the test may build."""

import math

import pytest
import torch

from qroar_core.diagnostics.logit_noise import measure as logit_noise
from qroar_core.diagnostics.logit_noise.measure import LogitNoiseMeter
from qroar_core.maths.softmax_rule import SoftmaxRule

HEADS, KV, D, L = 4, 2, 6, 60
BAND = torch.tensor([0, 1, 1, -1, 0, 1])
SCALING = 0.3
ROWS = torch.tensor([59, 0, 1, 7, 30, 58])


def tensors(seed: int = 0):
    g = torch.Generator().manual_seed(seed)
    q, k = torch.randn(HEADS, L, D, generator=g), torch.randn(KV, L, D, generator=g)
    return q, k, (q / 0.5).round() * 0.5, (k / 0.5).round() * 0.5


def dense(q, k, q_hat, k_hat, window):
    """Noise (H, L, L), its parts (3, H, L, L) and KL (H, L) with every logit written out."""
    q, k, q_hat, k_hat = (t.double() for t in (q, k, q_hat, k_hat))
    k, k_hat = (t.repeat_interleave(HEADS // KV, 0) for t in (k, k_hat))
    m, n = torch.arange(L)[:, None], torch.arange(L)
    seen = (n <= m) & (m - n < (window or L))
    product, product_hat = q[:, :, None] * k[:, None], q_hat[:, :, None] * k_hat[:, None]  # (H, L, L, D)
    parts = torch.stack([SCALING * (product_hat - product)[..., b == BAND].sum(-1) for b in (0, 1, -1)])
    logits, logits_hat = SCALING * product.sum(-1), SCALING * product_hat.sum(-1)
    p, p_hat = (torch.softmax(x.masked_fill(~seen, -math.inf), -1) for x in (logits, logits_hat))
    kl = torch.where(seen, p * (p.clamp(min=1e-300) / p_hat.clamp(min=1e-300)).log(), 0.0).sum(-1)
    return logits_hat - logits, parts, kl, seen


@pytest.mark.parametrize("window", [None, 10])
@pytest.mark.parametrize("quantized_q", [False, True])
@pytest.mark.parametrize("block", [1, 1500, 10**9])
def test_rows_bands_distances_and_kl_match_the_dense_matrix(monkeypatch, window, quantized_q, block):
    monkeypatch.setattr(logit_noise, "BLOCK_ELEMENTS", block)
    q, k, q_hat, k_hat = tensors()
    q_hat = q_hat if quantized_q else q
    noise, parts, kl, seen = dense(q, k, q_hat, k_hat, window)
    meter = LogitNoiseMeter(BAND, L, SCALING, SoftmaxRule(window))
    for first, keys in ((0, 60), (3, 59)):  # two calls; the second with as few keys as its rows see
        rows = ROWS[first : first + 3]
        meter.update(q[:, rows], rows, k[:, :keys], k_hat[:, :keys], q_hat[:, rows] if quantized_q else None)
    found = meter.result()
    assert found.position.tolist() == sorted(ROWS.tolist())
    for at, m in enumerate(found.position.tolist()):
        keys = seen[m]
        assert float(found.rms[at]) == pytest.approx(float(noise[:, m, keys].square().mean().sqrt()), rel=1e-4)
        assert float(found.kl[at]) == pytest.approx(float(kl[:, m].mean()), rel=1e-3, abs=1e-6)
        for b in range(2):
            expected = float(parts[b][:, m, keys].square().mean().sqrt())
            assert float(found.rms_by_band[at, b]) == pytest.approx(expected, rel=1e-4)
    for j, first in enumerate(found.distance.tolist()):
        cells = [(m, n) for m in ROWS.tolist() for n in range(L) if seen[m, n] and first <= m - n < 2 * first + 1]
        if not cells:
            assert math.isnan(found.rms_by_distance[j])
            continue
        m, n = torch.tensor(cells).T
        assert float(found.rms_by_distance[j]) == pytest.approx(float(noise[:, m, n].square().mean().sqrt()), rel=1e-4)
        for b in range(2):
            expected = float(parts[b][:, m, n].square().mean().sqrt())
            assert float(found.band_rms_by_distance[b, j]) == pytest.approx(expected, rel=1e-4)
    assert float(found.rms.min()) > 0.01


def test_no_quantizer_no_noise():
    q, k, _, _ = tensors()
    meter = LogitNoiseMeter(BAND, L, SCALING)
    meter.update(q[:, ROWS], ROWS, k, k)
    found = meter.result()
    assert not bool(found.rms.any())
    assert not bool(found.kl.any())


def test_noise_planted_in_one_band_stays_there():
    q, k, _, _ = tensors()
    k_hat = k.clone()
    k_hat[..., BAND == 1] += 0.5
    meter = LogitNoiseMeter(BAND, L, SCALING)
    meter.update(q[:, ROWS], ROWS, k, k_hat)
    found = meter.result()
    assert not bool(found.rms_by_band[:, 0].any())
    assert torch.allclose(found.rms_by_band[:, 1], found.rms)


def test_a_constant_logit_shift_is_noise_without_divergence():
    """k^ = k + c for every key moves a row's logits alike: softmax does not see it."""
    q, k, _, _ = tensors()
    meter = LogitNoiseMeter(BAND, L, SCALING)
    meter.update(q[:, ROWS], ROWS, k, k + 1.0)
    found = meter.result()
    assert float(found.rms.min()) > 0.1
    assert float(found.kl.max()) < 1e-5


def test_missing_keys_are_refused_and_no_rows_is_fine():
    q, k, _, k_hat = tensors()
    meter = LogitNoiseMeter(BAND, L, SCALING)
    with pytest.raises(ValueError, match="row 59"):
        meter.update(q[:, ROWS], ROWS, k[:, :40], k_hat[:, :40])
    meter.update(q[:, :0], ROWS[:0], k, k_hat)
    assert meter.result().rms.numel() == 0


@pytest.mark.parametrize("window", [None, 9])
@pytest.mark.parametrize("key_block", [1, 7, 32])
def test_small_blocks_of_keys_give_what_one_block_gives(key_block, window):
    """Keys in blocks, rounded on demand, some rows blind to whole blocks: the same table."""
    q, k, q_hat, k_hat = tensors()
    k = k * 30  # logits of some hundreds: the running softmax has to rescale
    k_hat = k_hat * 30
    asked = []

    def rounded(first, stop):
        asked.append((first, stop))
        return k_hat[:, first:stop]

    whole, split = (LogitNoiseMeter(BAND, L, SCALING, SoftmaxRule(window)) for _ in range(2))
    whole.update(q[:, ROWS], ROWS, k, k_hat, q_hat[:, ROWS], key_block=L)
    split.update(q[:, ROWS], ROWS, k, rounded, q_hat[:, ROWS], key_block=key_block)
    assert max(stop - first for first, stop in asked) == key_block
    expected, found = whole.result(), split.result()
    for name in ("rms", "rms_by_band", "rms_by_distance", "band_rms_by_distance", "kl"):
        a, b = getattr(expected, name), getattr(found, name)
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-9, equal_nan=True), name
    assert float(expected.kl.max()) > 0.1
