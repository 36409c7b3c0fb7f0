"""Logit noise and attention KL against a full attention matrix in float64, which only the test may build."""

import math
import random
import statistics

import pytest
import torch

from qroar_core.diagnostics.logit_noise import measure as logit_noise
from qroar_core.diagnostics.logit_noise.measure import LogitNoiseMeter
from qroar_core.diagnostics.logit_noise.result import growth as growth_of_rows
from qroar_core.diagnostics.logit_noise.result import growth_error
from qroar_core.diagnostics.logit_noise.table import noise_of
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


@pytest.mark.parametrize("window", [None, 10])
def test_the_standard_error_by_distance_is_that_of_rows_left_out_one_by_one(window):
    """Against the jackknife over rows, which shares no formula with the delta method; and none of a single row."""
    rows = torch.arange(8, 60, 2)
    q, k, q_hat, k_hat = tensors()
    noise, _, _, seen = dense(q, k, q_hat, k_hat, window)
    meter = LogitNoiseMeter(BAND, L, SCALING, SoftmaxRule(window))
    meter.update(q[:, rows[:9]], rows[:9], k, k_hat, q_hat[:, rows[:9]])
    meter.update(q[:, rows[9:]], rows[9:], k, k_hat, q_hat[:, rows[9:]])
    found = noise_of([meter], "local")
    square, compared = (noise.square() * seen).sum(0), 0
    for first, told in zip(found.distance, found.rms_by_distance_error, strict=True):
        near = torch.arange(L)[:, None] - torch.arange(L)
        cells = seen & (near >= first) & (near < 2 * first + 1)
        each, count = (square * cells).sum(1)[rows], HEADS * cells.sum(1)[rows].double()
        there = count > 0
        if int(there.sum()) < 12:
            continue
        each, count = each[there], count[there]
        left = ((each.sum() - each) / (count.sum() - count)).sqrt()
        n = len(left)
        expected = float(((n - 1) / n * (left - left.mean()).square().sum()).sqrt())
        assert told == pytest.approx(expected, rel=0.1)
        compared += 1
    assert compared >= 4
    single = LogitNoiseMeter(BAND, L, SCALING, SoftmaxRule(window))
    single.update(q[:, rows[-1:]], rows[-1:], k, k_hat, q_hat[:, rows[-1:]])
    assert set(noise_of([single], "local").rms_by_distance_error) == {None}


def test_layers_that_share_their_rows_do_not_shrink_the_standard_error_as_independent_ones_would():
    rows = torch.arange(8, 60, 2)
    q, k, q_hat, k_hat = tensors()
    meter = LogitNoiseMeter(BAND, L, SCALING)
    meter.update(q[:, rows], rows, k, k_hat, q_hat[:, rows])
    assert noise_of([meter] * 4, "local").rms_by_distance_error == pytest.approx(
        noise_of([meter], "local").rms_by_distance_error
    )


def test_the_error_of_growth_is_that_of_redrawn_rows():
    draw = random.Random(0)

    def rows(low, high):
        return [math.sqrt(draw.uniform(low, high)) for _ in range(20)]

    grown = [growth_of_rows(rows(1, 3) + rows(2, 6)) for _ in range(2000)]
    one = [math.sqrt(1 + 2 * i / 19) for i in range(20)] + [math.sqrt(2 + 4 * i / 19) for i in range(20)]
    assert growth_error(one) == pytest.approx(statistics.stdev(grown), rel=0.15)
    assert growth_error([1.0, 1.0, 2.0, 2.0]) == 0.0
    assert growth_error([1.0, 2.0, 3.0]) is None


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


# what has no rotation, signal beside noise


@pytest.mark.parametrize("window", [None, 10])
@pytest.mark.parametrize("cap", [None, 2.0])
def test_the_rest_and_the_spread_of_logits_and_noise_match_the_dense_matrix(window, cap):
    q, k, q_hat, k_hat = tensors(1)
    noise, parts, _, seen = dense(q, k, q_hat, k_hat, window)
    logits = SCALING * torch.einsum("hmd,hnd->hmn", q.double(), k.double().repeat_interleave(HEADS // KV, 0))
    meter = LogitNoiseMeter(BAND, L, SCALING, SoftmaxRule(window, softcap=cap))
    meter.update(q[:, ROWS], ROWS, k, k_hat, q_hat[:, ROWS], key_block=7)
    found = meter.result()
    for at, m in enumerate(found.position.tolist()):
        keys = seen[m]
        assert float(found.rest_rms[at]) == pytest.approx(float(parts[2][:, m, keys].square().mean().sqrt()), rel=1e-4)
        for name, x in (("logit_std", logits), ("noise_std", noise)):  # of the logits before a cap
            expected = float(x[:, m, keys].var(-1, correction=0).mean().sqrt())
            assert float(getattr(found, name)[at]) == pytest.approx(expected, rel=1e-4, abs=1e-7)
    m, n = torch.tensor([(m, n) for m in ROWS.tolist() for n in range(L) if seen[m, n] and 3 <= m - n < 7]).T
    expected = float(parts[2][:, m, n].square().mean().sqrt())
    assert float(found.rest_rms_by_distance[2]) == pytest.approx(expected, rel=1e-4)


def test_where_every_channel_turns_there_is_no_rest():
    q, k, _, k_hat = tensors()
    meter = LogitNoiseMeter(torch.tensor([0, 1, 1, 0, 0, 1]), L, SCALING)
    meter.update(q[:, ROWS], ROWS, k, k_hat)
    assert (meter.result().rest_rms, meter.result().rest_rms_by_distance) == (None, None)


def test_a_shift_of_all_logits_is_noise_without_spread():
    q, k, _, _ = tensors()
    meter = LogitNoiseMeter(BAND, L, SCALING)
    meter.update(q[:, ROWS], ROWS, k, k + 1.0)
    found = meter.result()
    assert float(found.rms.min()) > 0.1
    assert float(found.noise_std.max()) < 1e-5


# the null: blind noise of the same energy


def sphere(g, *shape):
    x = torch.randn(*shape, generator=g, dtype=torch.float64)
    return x / x.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize("window", [None, 10])
@pytest.mark.parametrize("quantized_q", [False, True])
def test_the_null_is_what_drawn_errors_of_that_energy_average_to(window, quantized_q):
    """Oracle: errors drawn at random angles with the mean energies over the cells counted, many times, in float64."""
    q, k, q_hat, k_hat = tensors(2)
    q, k = q * torch.linspace(0.5, 2, L)[:, None], k * torch.linspace(2, 0.5, L)[:, None]
    q_hat, k_hat = (q / 0.5).round() * 0.5, (k / 0.5).round() * 0.5
    q_hat = q_hat if quantized_q else q
    meter = LogitNoiseMeter(BAND, L, SCALING, SoftmaxRule(window))
    meter.update(q[:, ROWS], ROWS, k, k_hat, q_hat[:, ROWS] if quantized_q else None, key_block=13)
    found = meter.result()
    rows = sorted(ROWS.tolist())
    seen = torch.tensor([[0 <= m - n < (window or L) for n in range(L)] for m in rows])
    times_seen = seen.sum(0).double()
    k_energy = ((k_hat - k).double().square().sum(-1) * times_seen).sum(1) / times_seen.sum()  # (KV,)
    q_energy = (q_hat - q)[:, rows].double().square().sum(-1).mean(1)  # (heads,)
    g = torch.Generator().manual_seed(0)
    draws, total, spread = 600, 0, torch.zeros(len(rows), dtype=torch.float64)
    asked, keys = q_hat[:, rows].double(), k.double().repeat_interleave(HEADS // KV, 0)
    for _ in range(draws):
        dk = (sphere(g, KV, L, D) * k_energy.sqrt()[:, None, None]).repeat_interleave(HEADS // KV, 0)
        dq = sphere(g, HEADS, len(rows), D) * q_energy.sqrt()[:, None, None]
        product = asked[:, :, None] * dk[:, None] + dq[:, :, None] * keys[:, None]  # (H, R, L, D)
        pieces = [SCALING * product[..., b == BAND].sum(-1) for b in (0, 1, -1)] + [SCALING * product.sum(-1)]
        total = total + torch.stack([x.square() for x in pieces]) / draws  # (4, H, R, L)
        spread += torch.stack([pieces[3][:, i, s].var(-1, correction=0).mean() for i, s in enumerate(seen)]) / draws
    assert found.null_std.tolist() == pytest.approx(spread.sqrt().tolist(), rel=0.04, abs=1e-12)
    assert float(found.null_std[0]) == 0.0  # one key does not spread
    for at in range(len(rows)):
        expected = total[:, :, at, seen[at]].mean((1, 2)).sqrt()
        assert found.null[at].tolist() == pytest.approx(expected.tolist(), rel=0.04)
    distance = torch.tensor(rows)[:, None] - torch.arange(L)
    for j, first in enumerate(found.distance.tolist()):
        here = seen & (distance >= first) & (distance < 2 * first + 1)
        if not here.any():
            assert bool(found.null_by_distance[:, j].isnan().all())
            continue
        expected = total[:, :, here].mean((1, 2)).sqrt()
        assert found.null_by_distance[:, j].tolist() == pytest.approx(expected.tolist(), rel=0.04)
    assert not (window is None and torch.allclose(found.null[0], found.null[-1], rtol=0.2))  # queries grow


def planted_noise(grow_queries=1.0, grow_errors=1.0, band=None):
    """Errors at random angles (or in one band), growing with position or met by queries that do."""
    g = torch.Generator().manual_seed(3)
    length, rows = 512, torch.arange(16, 512, 16)
    q, k = torch.randn(HEADS, length, D, generator=g), torch.randn(KV, length, D, generator=g)
    error = 0.1 * torch.randn(KV, length, D, generator=g)
    q = q * torch.linspace(1, grow_queries, length)[:, None]
    error = error * torch.linspace(1, grow_errors, length)[:, None]
    if band is not None:
        error[..., band != BAND] = 0
    meter = LogitNoiseMeter(BAND, length, SCALING)
    meter.update(q[:, rows], rows, k, k + error)
    return meter.result()


def growth(x):
    return float(x[-8:].square().mean().sqrt() / x[:8].square().mean().sqrt())


def test_growth_that_is_only_the_queries_size_is_in_the_null_and_that_of_errors_is_not():
    found = planted_noise(grow_queries=4.0)
    assert growth(found.rms) > 1.8
    assert growth(found.rms) == pytest.approx(growth(found.null[:, -1]), rel=0.1)
    found = planted_noise(grow_errors=4.0)
    assert growth(found.rms) > 1.4
    assert growth(found.null[:, -1]) == pytest.approx(1.0, rel=0.1)


def test_noise_of_one_band_stands_out_of_a_null_that_is_blind_to_bands():
    blind = planted_noise()
    assert blind.rms_by_band.mean(0).tolist() == pytest.approx(blind.null.mean(0)[:2].tolist(), rel=0.1)
    loud = planted_noise(band=1)
    assert loud.rms_by_band[:, 1].tolist() == pytest.approx(loud.rms.tolist(), rel=1e-5)
    assert float((loud.rms_by_band[:, 1] / loud.null[:, 1]).mean()) == pytest.approx(math.sqrt(2), rel=0.1)
    assert loud.null[:, 0].min() > 0.01


def test_squares_of_parts_add_up_where_parts_are_independent_and_not_where_they_cancel():
    apart = planted_noise()
    parts = torch.cat([apart.rms_by_band, apart.rest_rms[:, None]], 1).square()
    assert parts.sum(1).tolist() == pytest.approx(apart.rms.square().tolist(), rel=0.15)
    g = torch.Generator().manual_seed(8)
    q, k = torch.randn(HEADS, L, D, generator=g), torch.randn(KV, L, D, generator=g)
    q[..., BAND == 1] = q[:, :, [0, 4, 0]]  # band 1 is asked for what band 0 is, with the opposite error
    error = torch.zeros(KV, L, D)
    error[..., 0], error[..., 1] = 0.3, -0.3
    meter = LogitNoiseMeter(BAND, L, SCALING)
    meter.update(q[:, ROWS], ROWS, k, k + error)
    found = meter.result()
    assert float(found.rms_by_band.min()) > 0.01
    assert float(found.rms.max()) < 1e-6


@pytest.mark.parametrize("window", [None, 20])
@pytest.mark.parametrize("active", [False, True])
def test_rows_of_a_cache_of_blocks_read_their_own_block_exactly_and_so_does_the_null(window, active):
    """Blocks of 16 keys; with `active` keys that are held exactly have a small error of their own. Cell by cell."""
    q, k, _, k_hat = tensors()
    held = k + 0.05 * torch.randn(k.shape, generator=torch.Generator().manual_seed(1)) if active else k
    meter = LogitNoiseMeter(BAND, L, SCALING, SoftmaxRule(window))
    exact = (lambda a, b: held[:, a:b]) if active else None
    meter.update(q[:, ROWS], ROWS, k, k_hat, key_block=20, cache_block=16, exact_keys=exact)
    found = meter.result()
    square = {"rounded": [[] for _ in range(KV)], "exact": [[] for _ in range(KV)]}  # |error|^2 of every cell
    cells = {}
    for m in sorted(ROWS.tolist()):
        for n in range(max(0, m - window + 1) if window else 0, m + 1):
            kind = "exact" if n >= m // 16 * 16 else "rounded"
            for kv in range(KV):
                error = ((k_hat if kind == "rounded" else held) - k)[kv, n].double()
                square[kind][kv].append(float(error.square().sum()))
                for head in (2 * kv, 2 * kv + 1):
                    cells.setdefault(m, []).append((head, kind, float(SCALING * q[head, m].double() @ error)))
    mean = {kind: [sum(x) / len(x) for x in by_kv] for kind, by_kv in square.items()}
    for at, m in enumerate(found.position.tolist()):
        rms = math.sqrt(sum(noise**2 for *_, noise in cells[m]) / len(cells[m]))
        assert float(found.rms[at]) == pytest.approx(rms, rel=1e-4, abs=1e-9)
        size = [float(q[head, m].double().square().sum()) for head in range(HEADS)]
        blind = sum(SCALING**2 / D * size[head] * mean[kind][head // 2] for head, kind, _ in cells[m]) / len(cells[m])
        assert float(found.null[at, -1]) == pytest.approx(math.sqrt(blind), rel=1e-4, abs=1e-9)
        assert (float(found.null[at, -1]) == 0) == (m < 16 and not active)


@pytest.mark.parametrize("quantized_q", [False, True])
@pytest.mark.parametrize("name", ["plain", "window", "cap", "sinks", "blocks"])
def test_the_null_of_the_kl_is_half_the_variance_of_blind_errors_under_a_rows_weights(name, quantized_q):
    """Written out in float64: mean error energies over the cells counted, weights of every row, p (1 - p)."""
    q, k, q_hat, k_hat = tensors()
    q_hat = q_hat if quantized_q else q
    rule = {
        "window": SoftmaxRule(10),
        "cap": SoftmaxRule(softcap=1.0),
        "sinks": SoftmaxRule(sinks=torch.tensor([0.5, -0.5, 1.0, 0.0])),
    }.get(name, SoftmaxRule())
    block = 16 if name == "blocks" else 1
    meter = LogitNoiseMeter(BAND, L, SCALING, rule)
    for at in (ROWS[:3], ROWS[3:]):
        meter.update(
            q[:, at],
            at,
            k,
            k_hat,
            q_hat[:, at] if quantized_q else None,
            key_block=7 if block == 1 else 32,
            cache_block=block,
        )
    found = meter.result()
    cells = {m: [n for n in range(m + 1) if m - n < (rule.window or L)] for m in ROWS.tolist()}

    def exact(m, n):
        return block > 1 and n >= m // block * block

    def energy(kv):
        errors = [
            float((k_hat[kv, n].double() - k[kv, n]).square().sum()) for m in cells for n in cells[m] if not exact(m, n)
        ]
        return sum(errors) / len(errors)

    for at, m in enumerate(sorted(cells)):
        kl = 0.0
        for h in range(HEADS):
            keys = k[h // 2, cells[m]].double()
            logits = SCALING * keys @ q[h, m].double()
            slope = torch.ones_like(logits)
            if name == "cap":
                slope, logits = 1 - logits.tanh() ** 2, logits.tanh()
            weight = logits.exp()
            p = weight / (weight.sum() + (float(rule.sinks[h].double().exp()) if name == "sinks" else 0.0))
            of_q = sum(float((q_hat[h, r].double() - q[h, r]).square().sum()) for r in cells) / len(cells)
            for i, n in enumerate(cells[m]):
                of_k = 0.0 if exact(m, n) else energy(h // 2)
                square = float(q_hat[h, m].double().square().sum()) * of_k
                kl += SCALING**2 / D * square * float(slope[i] ** 2 * p[i] * (1 - p[i])) / 2 / HEADS
            moved = slope[:, None] * keys  # a query's error is one for all keys: the weights' covariance of these
            covariance = torch.einsum("n,na,nb->ab", p, moved, moved) - torch.outer(p @ moved, p @ moved)
            kl += SCALING**2 / D * of_q * float(covariance.trace()) / 2 / HEADS
        assert float(found.null_kl[at]) == pytest.approx(kl, rel=1e-4, abs=1e-9)
        alone = m == 0 and name != "sinks"  # a single weight of 1 moves with no error
        assert (kl == 0) is (alone or (block > m and block > 1 and not quantized_q))


@pytest.mark.parametrize("errors", ["k", "q", "both"])
@pytest.mark.parametrize("cap", [None, 4.0])
def test_noise_that_is_its_own_null_has_the_kl_and_spread_of_it(errors, cap):
    """Simulated: an error of one size in a random direction for each key and each query, keys far from the origin."""
    g = torch.Generator().manual_seed(1)
    q, k = torch.randn(8, 200, 32, generator=g), torch.randn(4, 200, 32, generator=g) + 2
    rows = torch.arange(20, 200, 4)
    seen = []
    for _ in range(6):
        meter = LogitNoiseMeter(torch.zeros(32).long(), 200, 0.2, SoftmaxRule(softcap=cap))
        k_hat = k + 0.4 * sphere(g, *k.shape).float() if errors != "q" else k
        q_hat = q[:, rows] + 0.4 * sphere(g, 8, len(rows), 32).float() if errors != "k" else None
        meter.update(q[:, rows], rows, k, k_hat, q_hat, key_block=30)
        found = meter.result()
        pairs = (
            (found.kl, found.null_kl),
            (found.noise_std**2, found.null_std**2),
            (found.rms**2, found.null[:, -1] ** 2),
        )
        seen.append([[float(x.mean()) for x in pair] for pair in pairs])
    kl, spread, square = torch.tensor(seen).mean(0).tolist()
    assert kl[0] == pytest.approx(kl[1], rel=0.05)
    assert spread[0] == pytest.approx(spread[1], rel=0.05)
    assert square[0] == pytest.approx(square[1], rel=0.05)
    if errors == "q":  # nearly all of such noise is a shift of its row
        assert spread[1] < 0.4 * square[1]


def test_the_kl_of_blind_noise_is_its_null_and_that_of_noise_where_the_weight_is_is_not():
    g = torch.Generator().manual_seed(1)
    q, k = torch.randn(8, 400, 32, generator=g), torch.randn(8, 400, 32, generator=g)
    rows = torch.tensor([100, 200, 399])
    noise = torch.randn(k.shape, generator=g)
    heavy = torch.zeros(8, 400, 1)
    for h in range(8):  # as much energy, but at the keys that the last row weighs most
        heavy[h, (k[h] @ q[h, 399]).topk(20).indices] = 400 / 20
    for size in (0.05, 0.5):
        blind, seeing = (LogitNoiseMeter(torch.zeros(32).long(), 400, 0.3) for _ in range(2))
        blind.update(q[:, rows], rows, k, k + size * noise)
        seeing.update(q[:, rows], rows, k, k + size * noise * heavy.sqrt())
        a, b = blind.result(), seeing.result()
        assert float(a.kl.mean()) == pytest.approx(float(a.null_kl.mean()), rel=0.2)
        assert float(b.kl[-1]) > 1.5 * float(b.null_kl[-1])
