"""Searching a K offset: the error of a point by hand, its starts, what it gains, and that it never loses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from qroar_core.errors import BadSpec
from qroar_core.interpolations.bands import band_of_channel
from qroar_core.maths.attention_error import ErrorSetup, attention_error
from qroar_core.models.applicability import applicability_on
from qroar_core.progress import no_progress
from qroar_core.quantizers.fake_quantize import fake_quantize
from qroar_core.scale_search import run as search
from qroar_core.scale_search.key_constants import KeyConstants
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.scale_search.starts import starts
from qroar_core.setting import Setting
from qroar_core.specs import QuantizerSpec, QuantSpec, SearchSpec
from tests.scale_search.cancelled import last_step, whole_and_resumed
from tests.scale_search.searching import INT4, TEXTS, asked
from tests.scale_search.test_search_angles import BANDS, lying_on_an_axis
from tests.scale_search.test_search_maps import TIED


def run(loaded, rope=TIED, quant=INT4, **fields):
    return search.run(loaded, Setting(rope, quant, search=asked(**fields)), TEXTS)


def on_a_constant(tokens):
    """The layer of test_search_angles with 9 on channel 1 of every key, which does not turn there."""
    layer = lying_on_an_axis(tokens)
    k = layer.k.clone()
    k[..., 1] += 9.0
    return replace(layer, k=k, constant=torch.tensor([0.0, 1.5, 0.0, 0.0]))


def test_the_error_of_a_point_is_that_of_k_less_a_constant_rounded_and_read_by_hand():
    """float64 loops under the softmax: rows of KL(p || p^), p^ of k - 1.5 b rounded to 7 steps up and down."""
    layer, cos = on_a_constant(24), torch.ones(24, 2)
    band = band_of_channel(BANDS, 4, 4, "half")
    setup = ErrorSetup(INT4, "symmetric", band, 0.5, "half", cos, 0 * cos, "rows", offset=4)
    point = torch.tensor([[0.0, 0.0, 0.0, 5.0, 6.0, -3.0, 2.0]])  # numbers on channels that turn do nothing
    found = attention_error(layer, point, torch.eye(4)[None], setup)[0]
    keys = []
    for key in layer.k[0].double():
        moved = key - torch.tensor([0.0, 9.0, 0.0, 0.0], dtype=torch.float64)
        step = float(moved.abs().max()) / 7
        keys.append((moved / step).round() * step)
    for at, position in enumerate(layer.rows.tolist()):
        q = layer.q[0, at].double()
        p = torch.stack([0.5 * q @ k.double() for k in layer.k[0, : position + 1]]).softmax(0)
        moved = torch.stack([0.5 * q @ k for k in keys[: position + 1]]).softmax(0)
        assert float(found[at]) == pytest.approx(float((p * (p / moved).log()).sum()), rel=2e-3, abs=1e-9)
    without = attention_error(layer, torch.zeros(1, 7), torch.eye(4)[None], setup)[0]
    assert float(found.sum()) < float(without.sum())


def test_an_offset_of_a_point_changes_no_attention_row_without_a_quantizer():
    layer, cos = on_a_constant(24), torch.ones(24, 2)
    setup = ErrorSetup(
        INT4, "symmetric", band_of_channel(BANDS, 4, 4, "half"), 0.5, "half", cos, 0 * cos, "rows", (), 4
    )
    point = torch.tensor([[0.0, 0.0, 0.0, 0.0, 7.0, 0.0, 0.0]])
    assert float(attention_error(layer, point, torch.eye(4)[None], setup, reference=True).abs().max()) < 1e-6


def captured(loaded, **fields):
    problem = SearchProblem.of(loaded, Setting(TIED, INT4, search=asked(k_offset=True, **fields)), TEXTS)
    return problem, problem.captured(problem.calibration().ids, no_progress)


def test_starts_take_off_the_mean_and_the_middle_of_what_stands_still(tiny):
    problem, taken = captured(tiny(), angles=True, maps=True)
    constants, begin = KeyConstants.of(taken.windows), starts(problem, taken)
    k = torch.cat([window[1].k for window in taken.windows], 1).double()  # layer 1
    still = torch.tensor([channel % 8 in (6, 7) for channel in range(16)])  # tiny's pairs lie in halves
    torch.testing.assert_close(constants.mean[1].double(), k.mean(1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(constants.deviation[1].double(), k.std(1, correction=0), rtol=1e-3, atol=1e-5)
    mean = problem.parts(begin["identity, spread, less its mean"]).offset[1].double()
    torch.testing.assert_close(mean, torch.where(still, k.mean(1), 0.0), rtol=1e-4, atol=1e-5)
    point = begin["smooth_attention, spread, less its middle"]
    scales = problem.scales(point)
    assert not scales.k_offset[..., ~still].any()
    matrix = scales.maps[-1][1]  # of the still group: first coordinates, then second ones
    at = torch.tensor([6, 7, 14, 15])
    g = scales.g[1][:, -1]  # the last band holds both pairs
    mapped = (k[..., at] - scales.k_offset[1][:, None, at]) / g[:, None, None] @ matrix.mT
    torch.testing.assert_close(mapped.amax(1), -mapped.amin(1), rtol=1e-3, atol=1e-4)
    rest = k - constants.mean[1].double()[:, None] * still
    torch.testing.assert_close(constants.centred(taken.k_second_moment)[1], rest.mT @ rest, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("maps", [True, False], ids=["with maps", "with scales alone"])
def test_it_is_searched_beside_the_rest_and_only_helps(tiny, maps):
    loaded = tiny()
    with torch.no_grad():  # a constant that makes two channels wide
        for layer in loaded.model.model.layers:
            layer.self_attn.k_proj.bias = torch.nn.Parameter(torch.zeros(layer.self_attn.k_proj.out_features))
            layer.self_attn.k_proj.bias.view(-1, 16)[:, [6, 15]] = 3.0
    fields = {"angles": maps, "maps": maps, "steps": 20}
    without, found = run(loaded, **fields), run(loaded, k_offset=True, **fields)
    assert without.found.k_offset is None
    assert found.found.shifts
    assert found.report.objective_found < without.report.objective_found
    assert found.report.bounds == without.report.bounds
    assert 0.5 < float(found.found.k_offset[..., 6].mean()) / 3.0 < 1.5


def test_each_head_keeps_its_own_under_scales_of_the_layer(tiny):
    problem, taken = captured(tiny(), granularity="layer")
    objective, point = problem.objective(taken), starts(problem, taken)["identity, less its mean"]
    slope, _ = objective.gradient(point, 0, torch.arange(8))
    of_scales, of_offset = slope.split([len(problem.bands), 16], dim=-1)
    assert torch.equal(of_scales[:, 0], of_scales[:, 1])
    assert not torch.equal(of_offset[:, 0], of_offset[:, 1])
    rates = objective.rates(point)
    assert (rates[..., : len(problem.bands)] == 1).all()
    deviation = KeyConstants.of(taken.windows).deviation[..., [6, 7, 14, 15]]
    torch.testing.assert_close(rates[..., len(problem.bands) :][..., [6, 7, 14, 15]], deviation)
    found = run(tiny(), k_offset=True, granularity="layer", steps=10).found
    assert torch.equal(found.g, found.g[:, :1].expand_as(found.g))
    assert found.shifts
    assert not torch.equal(found.k_offset, found.k_offset[:, :1].expand_as(found.k_offset))


def test_a_cancelled_search_goes_on_with_its_offset(tiny):
    whole, _, again = whole_and_resumed(tiny, asked(k_offset=True, steps=24), TIED)
    assert last_step(again) == last_step(whole)


def test_where_every_channel_has_its_own_step_scales_cannot_act_and_an_offset_can(tiny):
    quant = QuantSpec(k=QuantizerSpec(4, scale="channel", group_size=16))
    problem = SearchProblem.of(tiny(), Setting(TIED, quant, search=asked(k_offset=True)), TEXTS)
    plain = replace(problem, spec=asked())
    assert applicability_on(problem.loaded.geometry, quant, "symmetric", problem.bands).acts == "no"
    assert plain.verdict.acts == "no"
    assert problem.verdict.acts == "yes"
    assert problem.verdict.reason.endswith("A K offset can act: it narrows what is rounded.")
    moving = replace(problem, quant=QuantSpec(k=QuantizerSpec(2, scale="channel", levels="affine", group_size=16)))
    assert moving.verdict.acts == "no"
    assert moving.verdict.reason.endswith("Nor can a K offset: each channel's min..max moves with it.")
    k = torch.randn(1, 64, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    error = fake_quantize(k, moving.quant.k) - k
    torch.testing.assert_close(fake_quantize(k + 3.0, moving.quant.k) - (k + 3.0), error, atol=2e-6, rtol=0)


def test_it_is_refused_without_a_still_pair_without_a_gradient_and_under_other_objectives(tiny):
    with pytest.raises(BadSpec, match="every channel of K turns"):
        run(tiny(), rope=replace(TIED, tie=TIED.tie[:1]), k_offset=True)
    with pytest.raises(BadSpec, match="--k-offset: gradients alone search K offset"):
        run(tiny(), k_offset=True, method="coordinate")
    with pytest.raises(BadSpec, match="the kl objective searches no K offset"):
        SearchSpec(k_offset=True, objective="kl")
