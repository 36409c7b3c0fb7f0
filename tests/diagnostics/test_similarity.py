"""Hidden-state similarity and its accumulation over layers, against per-row numpy."""

import math

import numpy as np
import pytest
import torch

from qroar_core.diagnostics.similarity.blind import random_direction_cosine
from qroar_core.diagnostics.similarity.measure import EXACT_DB, SimilarityMeter, decibels
from qroar_core.diagnostics.similarity.observe import drawn_rows
from qroar_core.diagnostics.similarity.table import similarity_of
from qroar_core.maths.positions import PositionBins

L, HIDDEN, BINS = 30, 12, 4
AT = torch.arange(L)


def measured(reference, errors, bins=BINS, cuts=(slice(0, 11), slice(11, L))):
    """Meter fed with (layers, L, hidden) references and errors, the latter carried from layer to layer."""
    meter = SimilarityMeter(len(reference), PositionBins(len(reference[0]), bins))
    for cut in cuts:
        before = None
        for layer, (x, e) in enumerate(zip(reference, errors)):
            meter.update(layer, torch.arange(len(x))[cut], x[cut], e[cut], before)
            before = e[cut]
    return meter


def test_every_bin_by_numpy():
    g = torch.Generator().manual_seed(0)
    x, e = torch.randn(3, L, HIDDEN, generator=g), 0.1 * torch.randn(3, L, HIDDEN, generator=g)
    x[:, 0] *= 1e3  # a sink
    e[1, 4] = 0
    found = measured(x, e).result()
    for layer in range(3):
        entering = e[layer - 1] if layer else torch.zeros_like(e[0])
        for p in range(BINS):
            here = [m for m in range(L) if m * BINS // L == p]
            a, b, before = (t[here].double().numpy() for t in (x[layer], e[layer], entering))
            energy = (a**2).sum(1)
            rows = {
                "error": (b**2).sum(1) / energy,
                "inherited": (before**2).sum(1) / energy,
                "added": ((b - before) ** 2).sum(1) / energy,
                "cross": 2 * (before * (b - before)).sum(1) / energy,
            }
            for name, values in rows.items():
                got = float(getattr(found, name)[layer, p])
                assert got == pytest.approx(values.mean(), rel=1e-4, abs=1e-9), name
            spread = rows["error"].std(ddof=1) / math.sqrt(len(here))
            assert float(found.error_se[layer, p]) == pytest.approx(spread, rel=1e-4)
            y = a + b
            cosine = [u @ v / np.linalg.norm(u) / np.linalg.norm(v) for u, v in zip(a, y, strict=True)]
            assert float(found.cosine[layer, p]) == pytest.approx(np.mean(cosine), rel=1e-6)
            assert float(found.pooled[layer, p]) == pytest.approx((b**2).sum() / energy.sum(), rel=1e-4)
            parts = sum(float(getattr(found, n)[layer, p]) for n in ("inherited", "added", "cross"))
            assert parts == pytest.approx(rows["error"].mean(), rel=1e-4)


def test_one_exact_row_and_one_long_row_do_not_rule_a_bin():
    """Relative errors of 0 and 0.01 in turn: 23.0 dB, not the 82 of a mean of decibels; nor do sinks count more."""
    x = torch.ones(1, 8, 4)
    e = torch.zeros_like(x)
    e[0, 1::2, 0] = 0.2  # |e|^2 / |x|^2 = 0.04 / 4
    plain = measured(x, e, bins=1, cuts=(slice(0, 8),))
    assert similarity_of(plain).sqnr_db == [[pytest.approx(-10 * math.log10(0.005), abs=1e-4)]]
    x[0, 0] *= 1e4  # an exact row that is a sink
    sink = similarity_of(measured(x, e, bins=1, cuts=(slice(0, 8),)))
    assert sink.sqnr_db == similarity_of(plain).sqnr_db
    assert sink.pooled_sqnr_db[0][0] > 80


def test_a_known_ratio_reads_as_its_decibels_and_a_wrong_global_scale_shows():
    x = torch.randn(L, HIDDEN, generator=torch.Generator().manual_seed(1))
    found = measured([x] * 3, [0.01 * x, -2 * x, 0 * x], bins=1).result()
    sqnr = decibels(found.error)[:, 0].tolist()  # 1/100 of the norm: 40 dB, though the cosine is blind to it
    assert sqnr == pytest.approx([40.0, 20 * math.log10(0.5), EXACT_DB], abs=1e-3)
    assert found.cosine[:, 0].tolist() == pytest.approx([1, -1, 1], abs=1e-6)


def test_an_error_below_what_fp32_resolves_counts_as_exact():
    found = measured([torch.tensor([[1e3, 1e-6]])], [torch.tensor([[0.0, 1e-10]])], bins=1, cuts=(slice(0, 1),))
    assert similarity_of(found).sqnr_db == [[EXACT_DB]]


def test_what_arithmetic_leaves_of_exact_rows_is_no_interval():
    """One row of four with an error of 1e-16, as float64 leaves it: the bin is exact, at both ends of its interval."""
    e = torch.zeros(4, 4, dtype=torch.float64)
    e[2, 0] = 1e-16
    shown = similarity_of(measured([torch.ones(4, 4, dtype=torch.float64)], [e], bins=1, cuts=(slice(0, 4),)))
    assert (shown.sqnr_low, shown.sqnr_db, shown.sqnr_high) == ([[EXACT_DB]],) * 3


def test_an_interval_below_no_error_reaches_no_error():
    """Of 16 rows one has an error, as where a cache holds most keys exactly: 2 standard errors are twice the mean."""
    e = torch.zeros(16, 4)
    e[3] = 0.1
    shown = similarity_of(measured([torch.ones(16, 4)], [e], bins=2, cuts=(slice(0, 16),)))
    assert shown.sqnr_high[0][0] == shown.null_high[0][0] == shown.null_high[0][1] == EXACT_DB
    assert shown.sqnr_low[0][0] < shown.sqnr_db[0][0] < 40
    assert shown.null_low[0][0] < shown.layer_sqnr_db[0] < 40
    (row,) = (r for r in shown.null_rows() if r.quantity.startswith("SQNR"))
    assert (row.high, row.open_above) == (EXACT_DB, "no error")


def test_zero_vectors():
    meter = measured([torch.zeros(1, 4), torch.ones(1, 4)], [torch.zeros(1, 4), -torch.ones(1, 4)], 1, (slice(0, 1),))
    found = meter.result()
    assert found.cosine[:, 0].tolist() == [1.0, 0.0]
    assert decibels(found.error)[:, 0].tolist() == [EXACT_DB, 0.0]


def test_bins_without_rows_are_none():
    meter = SimilarityMeter(1, PositionBins(L, BINS))
    meter.update(0, torch.tensor([1, 2]), torch.ones(2, 3), torch.full((2, 3), 0.1))
    found = similarity_of(meter)
    assert found.sqnr_db[0] == [pytest.approx(20.0, abs=1e-4), None, None, None]
    assert found.cosine[0][1:] == found.sqnr_low[0][1:] == found.accumulation.added_by_bin[0][1:] == [None] * 3


# the cosine's null


def cosines_of(x, e):
    y = x + e
    return (x * y).sum(-1) / np.linalg.norm(x, axis=-1) / np.linalg.norm(y, axis=-1)


@pytest.mark.parametrize("rho", [1e-3, 0.1, 1.0, 3.0])
@pytest.mark.parametrize("dim", [2, 3, 24, 576])
def test_the_cosine_of_errors_at_a_random_direction_by_drawing(rho, dim):
    rng = np.random.default_rng(0)
    e = rng.standard_normal((40_000, dim))
    e *= rho / np.linalg.norm(e, axis=-1, keepdims=True)
    x = np.zeros((1, dim))
    x[0, 0] = 1
    drawn = cosines_of(x, e)
    mean, variance = random_direction_cosine(torch.tensor([rho], dtype=torch.float64), dim)
    assert abs(float(mean) - drawn.mean()) < 4 * drawn.std() / 200
    assert float(variance) == pytest.approx(drawn.var(), rel=0.05)


def test_the_cosine_of_a_random_direction_at_its_ends():
    mean, variance = random_direction_cosine(torch.tensor([0.0, math.inf], dtype=torch.float64), 64)
    assert mean.tolist() == pytest.approx([1.0, 0.0], abs=1e-12)
    assert variance.tolist() == pytest.approx([0.0, 1 / 64], abs=1e-9)


@pytest.mark.parametrize("along", [0.0, -1.0])
def test_the_cosine_null_holds_errors_of_random_direction_and_not_those_that_point_against_the_row(along):
    """Errors of very different sizes in one bin, each row with its own; `along` adds a part that shrinks the row."""
    g = torch.Generator().manual_seed(11)
    x = torch.randn(1, 600, 48, generator=g, dtype=torch.float64)
    e = torch.randn(1, 600, 48, generator=g, dtype=torch.float64) * torch.rand(600, 1, generator=g)
    e = e + along * 0.6 * torch.rand(600, 1, generator=g) * x
    meter = measured(x, e, bins=3, cuts=(slice(0, 250), slice(250, 600)))
    found = similarity_of(meter)
    rng, shown = np.random.default_rng(1), []
    size = np.linalg.norm(e[0].numpy(), axis=-1, keepdims=True)
    for _ in range(300):
        other = rng.standard_normal((600, 48))
        drawn = cosines_of(x[0].numpy(), other * size / np.linalg.norm(other, axis=-1, keepdims=True))
        shown.append(drawn.reshape(3, 200).mean(1))
    low, high = found.cosine_null_low[0], found.cosine_null_high[0]
    assert found.cosine_null[0] == pytest.approx(np.mean(shown, 0), abs=5e-4)
    assert [(b - a) / 4 for a, b in zip(low, high)] == pytest.approx(np.std(shown, 0), rel=0.15)
    off = [abs(c - (a + b) / 2) / ((b - a) / 4) for a, c, b in zip(low, found.cosine[0], high)]  # standard errors
    assert max(off) < 3 if along == 0 else min(off) > 4
    (row,) = (r for r in found.null_rows() if r.quantity.startswith("cosine"))
    assert (row.measured, row.null, row.low, row.high) == (
        found.cosine[0][-1],
        found.cosine_null[0][-1],
        low[-1],
        high[-1],
    )


# sampled rows


@pytest.mark.parametrize(("length", "bins"), [(1024, 16), (100, 16), (17, 16), (9, 16), (2, 1)])
def test_rows_are_of_every_bin_in_order_and_never_position_0(length, bins):
    cells = PositionBins(length, bins)
    rows = drawn_rows(cells, 32, seed=3).tolist()
    assert rows == sorted(set(rows))
    assert 0 not in rows
    for p, (first, stop) in enumerate(zip(cells.edges(), cells.edges()[1:])):
        assert sum(cells.of(r) == p for r in rows) == min(32, stop - max(first, 1))
    assert drawn_rows(cells, 32, seed=3).tolist() == rows


def test_rows_do_not_stand_at_one_place_of_a_cache_block():
    """131,072 tokens in 16 bins: evenly spaced rows would be 256 apart, all at one place of each block of 128."""
    rows = drawn_rows(PositionBins(131_072, 16), 32, seed=0)
    assert len((rows % 128).unique()) > 100
    assert drawn_rows(PositionBins(131_072, 16), 32, seed=1).tolist() != rows.tolist()


# standard errors and nulls, by drawing


def test_the_standard_error_is_what_repeated_samples_spread_by():
    g = torch.Generator().manual_seed(4)
    x = torch.randn(1, 4000, HIDDEN, generator=g)
    size = torch.rand(4000, 1, generator=g)  # of both parts of a row's error, so that their share varies less
    e = 0.1 * torch.randn(1, 4000, HIDDEN, generator=g) * size
    e2 = e + 0.05 * torch.randn(1, 4000, HIDDEN, generator=g) * size
    shown, shares, ses, share_ses = [], [], [], []
    for cut in range(0, 4000, 40):
        here = slice(cut, cut + 40)
        meter = SimilarityMeter(2, PositionBins(4000, 1))
        meter.update(0, torch.arange(40), x[0, here], e[0, here])
        meter.update(1, torch.arange(40), x[0, here], e2[0, here], e[0, here])
        found = meter.result()
        shown.append(float(found.error[0]))
        ses.append(float(found.error_se[0]))
        shares.append(float(found.share[1]))
        share_ses.append(float(found.share_se[1]))
    assert np.mean(ses) == pytest.approx(np.std(shown, ddof=1), rel=0.2)
    assert np.mean(share_ses) == pytest.approx(np.std(shares, ddof=1), rel=0.2)


def test_the_null_of_a_bin_is_the_spread_of_shuffled_rows():
    g = torch.Generator().manual_seed(5)
    x, e = torch.ones(1, L, 4), torch.rand(1, L, 4, generator=g)
    found = measured(x, e).result()
    relative = (e[0].double().square().sum(1) / 4).numpy()
    rng = np.random.default_rng(0)
    members = [np.array([m * BINS // L for m in range(L)]) == p for p in range(BINS)]
    drawn = np.array(
        [[shuffled[m].mean() for m in members] for shuffled in (rng.permutation(relative) for _ in range(4000))]
    )
    assert found.null_se[0].numpy() == pytest.approx(drawn.std(0), rel=0.05)
    assert np.full(BINS, float(found.overall[0])) == pytest.approx(drawn.mean(0), rel=0.01)


def test_the_null_holds_rows_that_do_not_drift_and_lets_those_that_do_stand_out():
    def outside(grow):
        g = torch.Generator().manual_seed(6)
        x, e = torch.ones(1, 512, 32), 0.1 * torch.randn(1, 512, 32, generator=g)
        e *= 1 + grow * torch.arange(512)[:, None] / 512
        found = similarity_of(measured(x, e, bins=16, cuts=(slice(0, 512),)))
        rows = zip(found.sqnr_db[0], found.null_low[0], found.null_high[0], strict=True)
        return sum(not low <= value <= high for value, low, high in rows), found

    still, found = outside(0.0)
    assert still <= 2  # of 16 at two standard errors
    (row,) = (r for r in found.null_rows() if r.quantity.startswith("SQNR"))
    assert row.low < row.measured < row.high
    drifting, found = outside(3.0)
    assert drifting >= 10
    (row,) = (r for r in found.null_rows() if r.quantity.startswith("SQNR"))
    assert row.measured < row.low


# accumulation


def test_layers_that_add_the_same_at_random_read_as_the_null_and_one_that_repeats_does_not():
    g = torch.Generator().manual_seed(7)
    steps = 0.1 * torch.randn(6, 400, 64, generator=g)
    x = torch.ones(6, 400, 64)
    found = similarity_of(measured(x, steps.cumsum(0), cuts=(slice(0, 400),))).accumulation
    assert found.share_added == pytest.approx(found.share_null(), rel=0.02)
    off = found.cross_share_null()
    assert sum(abs(c) > o for c, o in zip(found.cross_share()[1:], off[1:], strict=True)) <= 1
    repeated = torch.arange(1, 7)[:, None, None] * steps[:1]  # every layer adds the very same error again
    again = similarity_of(measured(x, repeated, cuts=(slice(0, 400),))).accumulation
    assert again.cross_share()[1] == pytest.approx(1.0, rel=1e-4)
    assert again.cross_share()[1] > 5 * again.cross_share_null()[1]
    assert again.share_added[5] == pytest.approx(1 / (1 + 25), rel=1e-4)


def test_a_layer_that_takes_back_half_of_what_it_inherits():
    x, e = torch.ones(2, L, 4), torch.full((2, L, 4), 0.1)
    e[1] /= 2
    found = similarity_of(measured(x, e)).accumulation
    assert (found.inherited[0], found.added[0]) == (0.0, pytest.approx(0.01, rel=1e-5))
    assert (found.inherited[1], found.added[1], found.cross[1]) == (
        pytest.approx(0.01, rel=1e-5),
        pytest.approx(0.0025, rel=1e-5),
        pytest.approx(-0.01, rel=1e-5),
    )
