"""A diagnosis and a search where some layers' cache is kept: those layers have no error, and nothing to search."""

from dataclasses import replace

import pytest
import torch

from qroar_core.diagnostics import run as diagnose
from qroar_core.models.text import Document
from qroar_core.quantizers.presets import KV_PRESETS
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.scale_search.value_search import find_value_maps
from qroar_core.setting import Setting
from qroar_core.specs import BandSpec, DiagnosisSpec, QuantizerSpec, QuantSpec, RopeSpec, SearchSpec, WeightQuantSpec
from tests.remedies.test_comparison import TEXTS

INT4 = QuantizerSpec(4)
YARN = RopeSpec("yarn", 4.0)
SPEC = DiagnosisSpec(length=160, short_length=64, bands=BandSpec(2), windows=2, paired_tokens=8, query_rows=8)
KINDS = {
    "int4": QuantSpec(k=INT4),
    "kivi2": QuantSpec(k=KV_PRESETS["kivi2"].k),
    "int4 weights": QuantSpec(WeightQuantSpec(4), k=INT4),
}


def diagnosed(loaded, quant):
    text = [Document("a", TEXTS["calibration"][0].text * 2)]
    return diagnose.run(loaded, Setting(YARN, quant, SPEC), text).as_written()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_layers_that_are_kept_add_no_noise_and_others_keep_theirs(tiny, kind):
    loaded, quant = tiny(), KINDS[kind]
    plain, kept = (diagnosed(loaded, replace(quant, keep_layers=layers)) for layers in ((), (1,)))
    without = diagnosed(loaded, replace(quant, k=None)) if quant.weights else None
    (before, after) = (found.logit_noise.by_layer for found in (plain, kept))
    noise = [[max(value or 0.0 for value in flat(layer)) for layer in rows] for rows in (before, after)]
    assert all(value > 0 for value in noise[0])
    if without is None:  # each layer's own error: nothing propagates
        assert noise[1] == [pytest.approx(noise[0][0]), 0.0]
    else:
        assert noise[1][0] == pytest.approx(noise[0][0])
        assert 0 < noise[1][1] < noise[0][1]


def flat(nested):
    return [x for inner in nested for x in flat(inner)] if isinstance(nested, list) else [nested]


def test_a_search_sees_no_error_in_a_kept_layer_whatever_the_scales(tiny):
    loaded = tiny(layers=3)
    quant = QuantSpec(k=INT4, v=INT4, keep_layers=(1,))
    spec = SearchSpec(bands=BandSpec(4), length=64, windows=2, query_rows=16)
    problem = SearchProblem(loaded, RopeSpec(), quant, spec, TEXTS)
    taken = problem.captured(problem.calibration().ids, lambda step: None)
    objective = problem.objective(taken)
    point = torch.linspace(-1, 1, 3 * 2 * 4).view(3, 2, 4)
    error = objective.per_head(point)
    assert error[1].tolist() == [1.0, 1.0]  # as identity
    assert (error[[0, 2]] != 1.0).all()
    slope, _ = objective.gradient(point, 0, torch.arange(8))
    assert not slope[1].any()
    assert slope[[0, 2]].any()
    whole = SearchProblem(loaded, RopeSpec(), replace(quant, keep_layers=()), spec, TEXTS).objective(taken)
    assert torch.equal(whole.per_head(point)[[0, 2]], error[[0, 2]])
    maps = find_value_maps(taken, INT4, lambda step: None, problem.kept).maps
    assert torch.equal(maps[1], torch.eye(16, dtype=torch.float64).expand(2, -1, -1))
    assert not torch.equal(maps[0], maps[1])


def test_with_every_layer_kept_scales_cannot_act(tiny):
    loaded = tiny()
    spec = SearchSpec(bands=BandSpec(4), length=64)
    problem = SearchProblem(loaded, RopeSpec(), QuantSpec(k=INT4, keep_layers=(0, 1)), spec, {})
    assert problem.verdict.acts == "no"
    assert "nothing is quantized" in problem.verdict.reason
