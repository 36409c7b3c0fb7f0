"""What outlier entries cost: shares against loops in float64, limits against the exact quantiles, chunks, the null."""

import numpy as np
import pytest
import torch

from qroar_core.diagnostics.outliers.entries import EDGES, EntryMeter

KV, L, D = 2, 400, 16
BAND = torch.tensor([0] * 4 + [1] * 8 + [-1] * 4)
BIN = 2 ** (1 / 32) - 1  # 2.2 %; a limit is known to one and a half


def signal(seed: int = 0) -> torch.Tensor:
    x = torch.randn(KV, L, D, generator=torch.Generator().manual_seed(seed))
    x[0, :, 2] = 25 * x[0, :, 2].sign()  # a steady outlier sits on the top level: no error of its own
    x[1, ::5, 7] *= 20
    x[:, L // 2 :] *= 3.0  # the first chunk does not look like the rest
    x[0, 0, 5] = 0.0
    return x


def rounded(x: torch.Tensor, levels: int) -> torch.Tensor:
    step = x.abs().amax(-1, keepdim=True) / levels
    return (x / step).round() * step


def entries_of(x, chunk=L, variants=("int8", "int4")):
    meter = EntryMeter(KV, BAND, variants)
    levels = {"int8": 127, "int4": 7}
    for first in range(0, x.shape[1], chunk):
        part = x[:, first : first + chunk]
        meter.update(part, {name: rounded(part, levels[name]) for name in variants})
    return meter.result()


def exact_limit(values: np.ndarray, rule: str, parameter: float) -> float:
    if rule == "percentile":
        return float(np.quantile(values, parameter))
    if rule == "iqr":
        q1, q3 = np.quantile(values, [0.25, 0.75])
        return float(q3 + parameter * (q3 - q1))
    median = np.median(values)
    return float(median + parameter / 0.6745 * np.median(np.abs(values - median)))


RULES = [("iqr", 1.5), ("iqr", 3.0), ("mad", 3.5), ("percentile", 0.9), ("percentile", 0.99)]


@pytest.mark.parametrize(("rule", "parameter"), RULES)
def test_the_limit_is_that_of_all_tokens_to_one_bin(rule, parameter):
    x = signal()
    limits = entries_of(x).limits(rule, parameter)
    for head, at in enumerate(limits):
        exact = exact_limit(x[head].abs().double().numpy().ravel(), rule, parameter)
        assert EDGES[at] == pytest.approx(exact, rel=1.5 * BIN)


def test_where_magnitudes_are_sparse_the_limit_is_known_to_the_gap_between_two():
    """Of 2,064 heavy-tailed values the 0.999 quantile lies in a gap of several bins, anywhere for all one can tell."""
    off = []
    for seed in range(30):
        x = torch.from_numpy(np.random.default_rng(seed).standard_t(3, (1, 129, D))).float()
        meter = EntryMeter(1, BAND, ())
        meter.see(x)
        (at,) = meter.result().limits("percentile", 0.999)
        values = np.sort(x.abs().double().numpy().ravel())
        rank = int(0.999 * (len(values) - 1))
        margin = 1 + 1.5 * BIN
        assert values[rank] / margin <= EDGES[at] <= values[rank + 1] * margin
        off.append(abs(EDGES[at] / np.quantile(values, 0.999) - 1))
    assert max(off) > 2 * BIN  # so a bin is not what it is known to


@pytest.mark.parametrize("parameter", [3.5, 10.0])
@pytest.mark.parametrize("spread", [0.1, 0.2, 0.5, 1.0])
def test_a_mad_is_finer_than_the_bins_that_it_is_read_from(spread, parameter):
    """Magnitudes near 3: a bin is 0.07 wide there, as wide as the narrowest MAD."""
    noise = torch.randn(1, 5000, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = (3 + spread * noise).float()
    meter = EntryMeter(1, torch.zeros(4, dtype=torch.int64), ())
    meter.see(x)
    (at,) = meter.result().limits("mad", parameter)
    assert EDGES[at] == pytest.approx(exact_limit(x.abs().double().numpy().ravel(), "mad", parameter), rel=0.6 * BIN)


@pytest.mark.parametrize(("rule", "parameter"), RULES)
def test_shares_above_the_stated_limit_are_exact(rule, parameter):
    x = signal()
    found = entries_of(x)
    limits = found.limits(rule, parameter)
    error, entries = found.shares(limits)
    wide = x.double().numpy()
    for b in range(2):
        channels = np.flatnonzero(BAND.numpy() == b)
        far = [np.abs(wide[h][:, channels]) >= EDGES[limits[h]] for h in range(KV)]
        assert entries[b] == pytest.approx(sum(f.sum() for f in far) / (KV * L * len(channels)), rel=1e-9)
        for v, levels in enumerate((127, 7)):
            miss = (rounded(x, levels).double().numpy() - wide) ** 2
            carried = sum((miss[h][:, channels] * far[h]).sum() for h in range(KV))
            assert error[v, b] == pytest.approx(carried / miss[:, :, channels].sum(), rel=1e-4, abs=1e-9)
    if (rule, parameter) == ("iqr", 1.5):
        only = entries_of(torch.stack((x[0], x[0])))  # head 0 alone
        share, count = only.shares(only.limits(rule, parameter))
        assert share[1, 0] < count[0] / 2  # the steady outlier is exact and the rest pays for it
        assert count[0] == pytest.approx(1 / 4, abs=0.03)  # one of four channels


@pytest.mark.parametrize("chunk", [1, 7, 64, 399])
def test_nothing_depends_on_the_chunk(chunk):
    """Taken from the first 64 tokens, the limit would be a third of what it is."""
    x = signal()
    whole, parts = entries_of(x), entries_of(x, chunk)
    for rule, parameter in RULES:
        assert parts.limits(rule, parameter) == whole.limits(rule, parameter)
        at = whole.limits(rule, parameter)
        for a, b in zip(parts.shares(at), whole.shares(at)):
            assert a == pytest.approx(b, rel=1e-10)
    assert torch.allclose(parts.by_channel, whole.by_channel, rtol=1e-10)
    first = entries_of(x[:, :64]).limits("iqr", 1.5)
    assert EDGES[first[0]] < 0.6 * EDGES[whole.limits("iqr", 1.5)[0]]


def test_error_by_channel_by_loop():
    x = signal()
    found = entries_of(x, 64)
    miss = ((rounded(x, 7).double() - x.double()) ** 2).sum(1)
    assert found.by_channel[1].numpy() == pytest.approx(miss.numpy(), rel=1e-5)


def test_as_many_entries_at_random_carry_the_share_of_entries():
    """The null that the figure draws, drawn: entries chosen at random, as many in each band as are outliers."""
    x = torch.randn(KV, 4000, D, generator=torch.Generator().manual_seed(1))
    x[:, :, 5] *= 1 + 5 * (torch.rand(KV, 4000, generator=torch.Generator().manual_seed(2)) < 0.2)
    found = entries_of(x, variants=("int4",))
    error, entries = found.shares(found.limits("iqr", 1.5))
    miss = (rounded(x, 7).double().numpy() - x.double().numpy()) ** 2
    rng = np.random.default_rng(0)
    for b in range(2):
        pool = miss[:, :, BAND.numpy() == b].ravel()
        many = round(entries[b] * len(pool))
        drawn = [rng.choice(pool, many, replace=False).sum() / pool.sum() for _ in range(50)]
        assert np.mean(drawn) == pytest.approx(entries[b], rel=0.03)
    assert error[0, 1] > 1.2 * entries[1] or error[0, 1] < 0.8 * entries[1]  # outliers themselves do not


def test_exact_quantizer_has_no_share_to_give_and_all_zeros_no_outliers():
    x = signal()
    meter = EntryMeter(KV, BAND, ("none",))
    meter.update(x, {"none": x})
    found = meter.result()
    assert np.isnan(found.shares(found.limits("iqr", 1.5))[0]).all()
    nothing = EntryMeter(KV, BAND, ("none",))
    nothing.update(torch.zeros_like(x), {"none": x})
    empty = nothing.result()
    assert empty.shares(empty.limits("iqr", 1.5))[1].tolist() == [0.0, 0.0]
