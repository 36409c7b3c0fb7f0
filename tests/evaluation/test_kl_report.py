"""llama.cpp's KL report: every number against its definition in plain Python, and against numpy's percentiles."""

import math
import statistics

import numpy as np
import pytest
import torch

from qroar_core.evaluation.kl_report import DELTA_P_AT, KL_AT, kl_report, percentiles


@pytest.fixture
def case():
    generator = torch.Generator().manual_seed(0)
    reference = 3 * torch.rand(4, 25, generator=generator)
    nll = reference + 0.4 * torch.randn(4, 25, generator=generator)
    return reference, nll.abs(), torch.rand(4, 25, generator=generator), torch.rand(4, 25, generator=generator) > 0.3


def se(rows):
    return statistics.stdev(statistics.fmean(row) for row in rows) / math.sqrt(len(rows))


def test_every_number_by_its_definition(case):
    reference, nll, kl, same = (x.tolist() for x in case)
    flat = {name: x.flatten().tolist() for name, x in zip(("reference", "nll", "kl"), case[:3], strict=True)}
    found = kl_report(*case)
    ratio = [[b - a for a, b in zip(x, y, strict=True)] for x, y in zip(reference, nll, strict=True)]
    moved = [
        [100 * (math.exp(-b) - math.exp(-a)) for a, b in zip(x, y, strict=True)]
        for x, y in zip(reference, nll, strict=True)
    ]
    tokens = [v for row in moved for v in row]
    squares = [[v * v for v in row] for row in moved]
    rms = math.sqrt(statistics.fmean(v * v for v in tokens))
    wanted = {
        "ln_ratio": statistics.fmean(v for row in ratio for v in row),
        "ln_ratio_se": se(ratio),
        "correlation": statistics.correlation(flat["reference"], flat["nll"]),
        "kl_mean": statistics.fmean(flat["kl"]),
        "kl_mean_se": se(kl),
        "delta_p_mean": statistics.fmean(tokens),
        "delta_p_mean_se": se(moved),
        "delta_p_rms": rms,
        "delta_p_rms_se": se(squares) / (2 * rms),
        "same_top1": statistics.fmean(float(v) for row in same for v in row),
        "same_top1_se": se([[float(v) for v in row] for row in same]),
    }
    for name, value in wanted.items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-5), name
    assert list(found.kl) == ["50", "90", "95", "99", "99.9", "100"]
    for share, value in zip(KL_AT, found.kl.values(), strict=True):
        assert value == pytest.approx(np.quantile(case[2].double().numpy(), share), rel=1e-12)
    for share, value in zip(DELTA_P_AT, found.delta_p.values(), strict=True):
        assert value == pytest.approx(np.quantile(np.array(tokens), share), rel=1e-5)


def test_the_reference_against_itself_is_nothing_but_one_correlation(case):
    reference = case[0]
    found = kl_report(reference, reference, torch.zeros(4, 25), torch.ones(4, 25, dtype=torch.bool))
    assert (found.ln_ratio, found.kl_mean, found.delta_p_rms, found.same_top1) == (0, 0, 0, 1)
    assert found.correlation == pytest.approx(1)
    assert found.delta_p_rms_se is None
    assert set(found.delta_p.values()) == {0.0}


def test_one_window_has_no_error_and_rounding_below_zero_is_no_divergence():
    one = torch.tensor([[1.0, 2.0]])
    found = kl_report(one, one, torch.tensor([[-1e-9, 0.5]]), torch.tensor([[True, False]]))
    assert (found.kl_mean_se, found.same_top1_se, found.kl_mean) == (None, None, 0.25)
    assert kl_report(torch.ones(2, 3), one.new_ones(2, 3), torch.zeros(2, 3), torch.ones(2, 3)).correlation is None


def test_one_value_is_all_its_percentiles():
    assert percentiles(torch.tensor([2.0]), (0.0, 0.5, 1.0)) == {"0": 2.0, "50": 2.0, "100": 2.0}
