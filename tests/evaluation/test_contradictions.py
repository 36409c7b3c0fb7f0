"""An evaluation whose kl_report or curves contradict its rows is said to. The rest: tests/runs/test_agreement.py."""

import json

import pytest
import torch

from qroar_core.evaluation.contradictions import contradictions_of
from qroar_core.evaluation.findings import position_curve
from qroar_core.evaluation.kl_report import kl_report
from qroar_core.evaluation.kl_report_contradictions import kl_report_against
from qroar_core.evaluation.result import Evaluation, KLReport
from qroar_core.result_shapes import contradiction
from tests.helpers import planted

WINDOWS = 4


def planted_report(seed=0, windows=WINDOWS):
    """As of a quantized model: NLL a little higher, KL above zero."""
    draw = torch.Generator().manual_seed(seed)
    reference = torch.rand(windows, 64, generator=draw) * 4
    nll = (reference + torch.randn(windows, 64, generator=draw) * 0.3).clamp_min(0)
    kl = torch.rand(windows, 64, generator=draw).square()
    return kl_report(reference, nll, kl, torch.rand(windows, 64, generator=draw) > 0.1)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"correlation": 2.5}, "correlation: 2.5 is above 1"),
        ({"kl_mean": -0.1}, "kl_mean: -0.1 is below 0"),
        ({"kl": {"50": -1.0, "99": 0.5}}, "kl.50: -1 is below 0"),
        ({"delta_p_rms": 900.0}, "delta_p_rms: 900 is above 100"),
        ({"delta_p_mean": -101.0}, "delta_p_mean: -101 is below -100"),
        ({"delta_p": {"0": -300.0, "100": 1.0}}, "delta_p.0: -300 is below -100"),
        ({"same_top1_se": 40.0}, "same_top1_se: 40, over 4 windows at most"),
        ({"kl_mean_se": 9.0}, "kl_mean_se: 9, over 4 windows at most"),
        ({"kl_mean": 5.0}, "kl_mean: 5, of numbers from 0 to"),
        ({"kl": {"50": 1e-9, "100": 1e-9}}, "kl_mean: "),
        ({"delta_p_mean": 99.0}, "delta_p_mean: 99, of numbers from"),
        ({"delta_p_mean_se": 99.0}, "delta_p_mean_se: 99, over 4 windows at most"),
        ({"delta_p_rms": 99.9}, "delta_p_rms: 99.9, of numbers from 0 to"),
        ({"delta_p_rms_se": 99.0}, "delta_p_rms_se: 99, over 4 windows at most"),
    ],
)
def test_a_number_that_a_kl_report_cannot_have_is_said(change, problem):
    broken = KLReport.model_validate(planted_report().model_dump() | change)
    found = [contradiction(broken), *kl_report_against(broken, WINDOWS)]
    assert any(one.startswith(problem) for one in found), found


@pytest.mark.parametrize("seed", range(20))
def test_every_measured_kl_report_follows(seed):
    """Windows as different as can be too: all that is right in one, nothing in the next."""
    for windows in (1, 2, 7):
        one = planted_report(seed, windows).as_written()
        assert contradiction(one) == ""
        assert list(kl_report_against(one, windows)) == []
    apart = torch.tensor([[0.0] * 8, [9.0] * 8])
    far = kl_report(apart.flip(0), apart, apart, apart > 1).as_written()
    assert list(kl_report_against(far, 2)) == []


def test_an_error_over_windows_is_the_most_that_two_opposite_windows_have():
    """Oracle: one window all right and one all wrong have mean 1/2 and an error of 1/2."""
    right = torch.tensor([[True] * 8, [False] * 8])
    even = kl_report(torch.zeros(2, 8), torch.zeros(2, 8), torch.zeros(2, 8), right)
    assert even.same_top1_se == pytest.approx(0.5)
    assert list(kl_report_against(even, 2)) == []
    assert list(kl_report_against(even.model_copy(update={"same_top1_se": 0.51}), 2)) != []


def with_curves(edit, points=5, targets=128, windows=16):
    """A planted evaluation with curves of its own windows, 128 targets dealt to five points."""
    whole = planted.evaluation(targets=targets, windows=windows)
    shape = [targets // points + (i < targets % points) for i in range(points)]
    tilt = [0.1 * i - sum(0.1 * j * n for j, n in enumerate(shape)) / targets for i in range(points)]
    means = {key.split("/", 1)[1]: v for key, v in whole.window_nll.items() if key.startswith("1024/")}
    curves = {name: [[value + t for t in tilt] for value in values] for name, values in means.items()}
    curve = position_curve([900, 920, 940, 960, 980], curves, 0.95)
    content = json.loads(whole.model_copy(update={"positions": curve}).to_json())
    edit(content["positions"])
    return list(contradictions_of(Evaluation.model_validate(content)))


def shifted(c):
    c["curves"]["quantized/tuned"] = [x + 3 for x in c["curves"]["quantized/tuned"]]


def reference_shifted(c):
    c["curves"] = {name: [x + 3 for x in values] for name, values in c["curves"].items()}


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (shifted, "positions.cost_low.quantized/tuned.0: around 0.25, the curves have 3.25"),
        (reference_shifted, "positions.curves.reference/identity: 5.1 on average, its row has 2.1"),
        (
            lambda c: c["cost_low"]["quantized/tuned"].__setitem__(2, -3.0),
            "positions.cost_low.quantized/tuned.2: around",
        ),
        (
            lambda c: c.update(cost_low={}, cost_high={}) or shifted(c),
            "positions.curves.quantized/tuned: 5.35 on average",
        ),
    ],
)
def test_a_curve_away_from_its_row_or_its_interval_is_said(edit, problem):
    found = with_curves(edit)
    assert any(one.startswith(problem) for one in found), found


def with_kl(edit):
    """A planted evaluation whose rows have a KL of three windows, 0.1, 0.2 and 0.6, but the reference."""
    whole = planted.evaluation(windows=3)
    kl = {key: [0.0] * 3 if key.endswith("reference/identity") else [0.1, 0.2, 0.6] for key in whole.window_nll}
    se = 0.1527525231651947  # of 0.1, 0.2 and 0.6: sqrt(0.07 / 3)
    rows = []
    for row in whole.rows:
        own = (row.model, row.scales) == ("reference", "identity")
        close = planted_report().model_copy(update={"kl_mean": 0.0 if own else 0.3, "kl_mean_se": 0.0 if own else se})
        rows.append(row.model_copy(update={"kl_mean": close.kl_mean, "close": close, "same_top1": None}))
    content = json.loads(whole.model_copy(update={"rows": rows, "window_kl": kl}).to_json())
    edit(content)
    said = contradictions_of(Evaluation.model_validate(content))
    return [one for one in said if "kl_mean" in one.split(":")[0] or "window_kl" in one]


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (
            lambda c: c["window_kl"]["1024/quantized/identity"].__setitem__(2, 0.9),
            ".kl_mean: 0.3, its windows have 0.4",
        ),
        (
            lambda c: c["window_kl"].update({"1024/quantized/identity": [0.3, 0.3, 0.3]}),
            ".close.kl_mean_se: 0.152753, its windows have 0",
        ),
        (lambda c: c["window_kl"].pop("1024/quantized/identity"), "window_kl: not of the rows of window_nll"),
    ],
)
def test_a_kl_away_from_its_windows_is_said(edit, problem):
    assert any(problem in one for one in with_kl(edit)), with_kl(edit)


def test_the_kl_of_the_windows_follows():
    assert with_kl(lambda c: None) == []


def test_the_curves_of_the_windows_follow():
    assert with_curves(lambda c: None) == []
