"""Cosine and SQNR by position against per-token numpy."""

import math

import numpy as np
import pytest
import torch

from qroar_core.diagnostics.similarity.measure import EXACT_DB, SimilarityMeter
from qroar_core.maths.positions import PositionBins

L, HIDDEN, BINS = 30, 12, 4


def test_every_bin_by_numpy():
    g = torch.Generator().manual_seed(0)
    x, noise = torch.randn(2, L, HIDDEN, generator=g), torch.randn(2, L, HIDDEN, generator=g)
    x[:, 0] *= 1e3  # a sink
    y = x + 0.1 * noise
    y[1, 4] = x[1, 4]
    meter = SimilarityMeter(3, PositionBins(L, BINS))
    for layer in (0, 1):
        for cut in (slice(0, 11), slice(11, L)):
            meter.update(layer, cut.start, x[layer, cut], y[layer, cut])
    found = meter.result()
    for layer in (0, 1):
        for p in range(BINS):
            here = [m for m in range(L) if m * BINS // L == p]
            a, b = x[layer, here].double().numpy(), y[layer, here].double().numpy()
            cosine = [u @ v / np.linalg.norm(u) / np.linalg.norm(v) for u, v in zip(a, b, strict=True)]
            dbs = [
                20 * math.log10(np.linalg.norm(u) / np.linalg.norm(u - v)) if (u != v).any() else EXACT_DB
                for u, v in zip(a, b, strict=True)
            ]
            pooled = 10 * math.log10((a**2).sum() / ((a - b) ** 2).sum())
            assert float(found.cosine[layer, p]) == pytest.approx(np.mean(cosine), rel=1e-6)
            assert float(found.sqnr_db[layer, p]) == pytest.approx(np.mean(dbs), rel=1e-4)
            assert float(found.pooled_sqnr_db[layer, p]) == pytest.approx(pooled, rel=1e-4)
    assert bool(found.cosine[2].isnan().all())


def test_a_known_ratio_reads_as_its_decibels_and_a_wrong_global_scale_shows():
    x = torch.randn(L, HIDDEN, generator=torch.Generator().manual_seed(1))
    meter = SimilarityMeter(3, PositionBins(L, 1))
    meter.update(0, 0, x, 1.01 * x)  # error 1/100 of the norm: 40 dB, though the cosine is blind to it
    meter.update(1, 0, x, -x)
    meter.update(2, 0, x, x)
    found = meter.result()
    assert float(found.sqnr_db[0]) == pytest.approx(40.0, abs=1e-3)
    assert found.cosine[:, 0].tolist() == pytest.approx([1, -1, 1], abs=1e-6)
    assert float(found.sqnr_db[1]) == pytest.approx(20 * math.log10(0.5), abs=1e-5)
    assert float(found.sqnr_db[2]) == EXACT_DB
    assert float(found.pooled_sqnr_db[2]) == math.inf


def test_a_token_nearer_than_fp32_resolves_counts_as_exact():
    x = torch.tensor([[1e3, 1e-6]])
    meter = SimilarityMeter(1, PositionBins(1, 1))
    meter.update(0, 0, x, x + torch.tensor([[0.0, 1e-10]]))
    assert float(meter.result().sqnr_db) == EXACT_DB


def test_zero_vectors():
    meter = SimilarityMeter(2, PositionBins(1, 1))
    meter.update(0, 0, torch.zeros(1, 4), torch.zeros(1, 4))
    meter.update(1, 0, torch.ones(1, 4), torch.zeros(1, 4))
    found = meter.result()
    assert found.cosine[:, 0].tolist() == [1.0, 0.0]
    assert found.sqnr_db[:, 0].tolist() == [EXACT_DB, 0.0]
