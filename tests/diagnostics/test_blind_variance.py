"""How far blind noise is moved by chance, against errors drawn many times in float64 numpy."""

import math

import numpy as np
import pytest
import torch

from qroar_core.diagnostics.logit_noise.figure_split import split
from qroar_core.diagnostics.logit_noise.measure import LogitNoiseMeter
from qroar_core.diagnostics.logit_noise.result import _loudest
from qroar_core.diagnostics.logit_noise.table import noise_of
from qroar_core.maths.softmax_rule import SoftmaxRule
from tests.helpers import planted

HEADS, KV, D, L, SCALING, DRAWS = 4, 2, 6, 60, 0.3, 4000
BAND = torch.tensor([0, 1, 1, -1, 0, 1])
ROWS = torch.tensor([59, 5, 7, 30, 58])


def tensors(seed=2):
    g = torch.Generator().manual_seed(seed)
    q = torch.randn(HEADS, L, D, generator=g) * torch.linspace(0.5, 2, L)[:, None]
    k = torch.randn(KV, L, D, generator=g) * torch.linspace(2, 0.5, L)[:, None] + 0.5
    return q, k, (q / 0.5).round() * 0.5, (k / 0.5).round() * 0.5


@pytest.mark.parametrize(("window", "block"), [(None, 1), (10, 1), (None, 16), (20, 16)])
@pytest.mark.parametrize("quantized_q", [False, True])
def test_the_variance_of_a_band_is_that_of_drawn_errors(window, block, quantized_q):
    q, k, q_hat, k_hat = tensors()
    q_hat = q_hat if quantized_q else q
    meter = LogitNoiseMeter(BAND, L, SCALING, SoftmaxRule(window))
    asked = q_hat[:, ROWS] if quantized_q else None
    meter.update(q[:, ROWS], ROWS, k, k_hat, asked, key_block=13, cache_block=block)
    found = meter.result()
    rows, rng = sorted(ROWS.tolist()), np.random.default_rng(0)
    seen = np.array([[0 <= m - n < (window or L) for n in range(L)] for m in rows])
    held = np.array([[block > 1 and n >= m // block * block for n in range(L)] for m in rows])
    rounded = (seen & ~held).sum(0)
    k_energy = (np.square((k_hat - k).double().numpy()).sum(-1) * rounded).sum(1) / rounded.sum()  # (KV,)
    q_energy = np.square((q_hat - q)[:, rows].double().numpy()).sum(-1).mean(1)  # (heads,)
    queries, keys = q_hat[:, rows].double().numpy(), k.double().numpy().repeat(HEADS // KV, 0)
    weight = seen / seen.sum(1, keepdims=True) / len(rows) / HEADS
    shown = []
    for _ in range(DRAWS):
        dk = rng.standard_normal((KV, L, D)) * np.sqrt(k_energy / D)[:, None, None]
        dq = rng.standard_normal((HEADS, len(rows), D)) * np.sqrt(q_energy / D)[:, None, None]
        sums, parts = [], []
        for band in (0, 1, -1):
            here = (band == BAND).numpy()
            noise = np.einsum("hrd,hnd->hrn", queries[..., here], dk.repeat(HEADS // KV, 0)[..., here]) * ~held
            noise += np.einsum("hrd,hnd->hrn", dq[..., here], keys[..., here])
            sums.append((SCALING**2 * np.square(noise) * weight).sum())
            parts.append(noise)
        shown.append([*sums, (SCALING**2 * np.square(sum(parts)) * weight).sum()])
    assert found.null.square().mean(0).tolist() == pytest.approx(np.mean(shown, 0), rel=0.04)
    *chances, whole = found.null_chance.sqrt().tolist()
    assert chances == pytest.approx(np.std(shown, 0)[:3], rel=0.08)
    drawn = np.std(shown, 0)[3]
    # with errors of queries it is a bound
    assert 0.92 * drawn < whole < (1.6 if quantized_q else 1.08) * drawn


def blind_noise(seed, loud=1.0, layers=3):
    """Noise of errors at random angles, those of band 1 `loud` times as large."""
    g = torch.Generator().manual_seed(seed)
    band, rows, meters = torch.arange(32) // 4, torch.arange(15, 160, 16), []
    for _ in range(layers):
        q, k = torch.randn(2, 160, 32, generator=g), torch.randn(2, 160, 32, generator=g)
        error = 0.1 * torch.randn(k.shape, generator=g)
        error[..., band == 1] *= loud
        meter = LogitNoiseMeter(band, 160, 0.3)
        meter.update(q[:, rows], rows, k, k + error)
        meters.append(meter)
    return noise_of(meters, "local")


def test_the_loudest_band_of_blind_noise_lies_in_the_range_of_its_null_and_a_louder_one_does_not():
    rows = []
    for seed in range(30):
        noise = blind_noise(seed)
        (row,) = (r for r in noise.null_rows() if r.quantity.startswith("loudest"))
        assert row.low < row.null < row.high
        rows.append(row)
    inside = sum(row.low <= row.measured <= row.high for row in rows)
    assert inside >= 26  # 28.5 expected
    off = np.mean([row.measured for row in rows]) - np.mean([row.null for row in rows])
    assert abs(off) < 3 * np.std([row.measured for row in rows]) / math.sqrt(30)
    (loud,) = (r for r in blind_noise(0, loud=1.6).null_rows() if r.quantity.startswith("loudest"))
    assert loud.measured > loud.high


def test_an_older_file_has_the_ratio_of_the_expected_bands_and_no_range():
    noise = blind_noise(0)
    old = noise.model_copy(update={"null": noise.null.model_copy(update={"by_band_chance": []})})
    (row,) = (r for r in old.null_rows() if r.quantity.startswith("loudest"))
    assert (row.null, row.low, row.high) == (_loudest(noise.null.by_band_position), None, None)
    assert "95 %" not in row.control


def test_a_layer_of_blind_noise_is_seldom_named_and_a_louder_one_is():
    """Of 30 models without a loud layer few are told one, where a ratio above 1 would name one in most."""
    named = above = 0
    for seed in range(30):
        found = layered(blind_noise(seed))
        title = split(found, "layer").title
        named += "most from" in title
        late = [math.sqrt(sum(v * v for v in row[len(row) // 2 :])) for row in found.logit_noise.by_layer]
        null = [math.sqrt(sum(v * v for v in row[len(row) // 2 :])) for row in found.logit_noise.null_by_layer]
        above += max(a / b for a, b in zip(late, null, strict=True)) > 1
        assert "most from" in title or ": at the farthest, none makes more than random errors" in title
    assert above > 20
    assert named <= 4  # 1.5 expected
    noise = blind_noise(0)
    first, second, third = noise.by_layer
    raised = noise.model_copy(update={"by_layer": [first, [1.3 * v for v in second], third]})
    assert "at the farthest, most from layer 1, beside what random errors" in split(layered(raised), "layer").title


def layered(noise):
    """The planted diagnosis with this noise."""
    return planted.diagnosis().model_copy(update={"logit_noise": noise, "groups": []})
