"""Searching maps on tied pairs: the error of a point by brute force, what they gain, and that they never lose."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from qroar_core.errors import BadSpec
from qroar_core.interpolations.bands import band_of_channel
from qroar_core.interpolations.tie import Tie
from qroar_core.maths.attention_error import ErrorSetup, attention_error
from qroar_core.maths.channel_groups import ChannelGroup
from qroar_core.models.condition import Condition
from qroar_core.models.window_losses import hidden_states
from qroar_core.scale_search import run as search
from qroar_core.scale_search.objectives.kl import KLObjective
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.setting import Setting
from qroar_core.specs import QuantSpec, RopeSpec, SearchSpec
from tests.scale_search.cancelled import last_step, whole_and_resumed
from tests.scale_search.searching import INT4, TEXTS, asked
from tests.scale_search.test_search_angles import BANDS, lying_on_an_axis

TIED = RopeSpec("linear", 2.0, tie=(Tie(4, 5), Tie(6, 7, 0.0)))  # tiny has 8 pairs


def run(loaded, rope=TIED, **fields):
    return search.run(loaded, Setting(rope, INT4, search=asked(**fields)), TEXTS)


def test_the_error_of_a_point_is_that_of_k_mixed_rounded_and_read_by_hand():
    """float64 loops: K mixed by the matrix, each token's values to 7 steps up and down, q by the inverse."""
    layer, group = lying_on_an_axis(24), ChannelGroup(0, 1, still=True)
    numbers = torch.randn(1, 16, generator=torch.Generator().manual_seed(4)) / 2
    cos = torch.ones(24, 2)
    band = band_of_channel(BANDS, 4, 4, "half")
    setup = ErrorSetup(INT4, "symmetric", band, 0.5, "half", cos, 0 * cos, "logits", groups=(group,))
    point = torch.cat((torch.zeros(1, 3), numbers), -1)
    found = attention_error(layer, point, torch.eye(4)[None], setup)[0]
    matrix = torch.eye(4, dtype=torch.float64) + numbers.double().view(4, 4)
    inverse = torch.linalg.inv(matrix)
    keys = []
    for key in layer.k[0].double():
        mixed = [sum(float(matrix[i, j] * key[j]) for j in range(4)) for i in range(4)]
        step = max(abs(x) for x in mixed) / 7
        keys.append([step * round(x / step) for x in mixed])
    for at, position in enumerate(layer.rows.tolist()):
        q = layer.q[0, at].double()
        asking = [sum(float(inverse[j, i] * q[j]) for j in range(4)) for i in range(4)]
        moved = [0.5 * sum(a * b for a, b in zip(asking, key, strict=True)) for key in keys[: position + 1]]
        exact = [0.5 * float(q @ layer.k[0, t].double()) for t in range(position + 1)]
        error = sum((a - b) ** 2 for a, b in zip(moved, exact, strict=True)) / len(moved)
        assert float(found[at]) == pytest.approx(error, rel=2e-3)


def test_maps_of_a_point_change_no_logit_without_a_quantizer():
    layer, group = lying_on_an_axis(24), ChannelGroup(0, 1, still=True)
    point = torch.cat((torch.zeros(1, 3), torch.randn(1, 16) / 2), -1)
    cos, band = torch.ones(24, 2), band_of_channel(BANDS, 4, 4, "half")
    setup = ErrorSetup(INT4, "symmetric", band, 0.5, "half", cos, 0 * cos, "logits", groups=(group,))
    assert float(attention_error(layer, point, torch.eye(4)[None], setup, reference=True).max()) < 1e-8


def test_maps_are_searched_beside_scales_and_angles_and_only_help(tiny):
    angles = run(tiny(), angles=True, steps=40)
    maps = run(tiny(), angles=True, maps=True, steps=40)
    assert angles.found.maps == ()
    assert [one.shape[-1] for one in maps.found.maps] == [4, 4]
    assert maps.found.mixes
    assert maps.report.objective_found < angles.report.objective_found
    assert maps.report.bounds == angles.report.bounds  # of log2 g only


def test_a_cancelled_search_goes_on_with_its_maps(tiny):
    whole, _, again = whole_and_resumed(tiny, asked(angles=True, maps=True, steps=24), TIED)
    assert last_step(again) == last_step(whole)


def test_the_whole_model_at_a_point_is_the_model_with_these_maps_in_its_weights(tiny):
    loaded = tiny()
    problem = SearchProblem.of(loaded, Setting(TIED, INT4, search=asked(angles=True, maps=True)), TEXTS)
    zero = torch.zeros(loaded.geometry.n_layers, loaded.geometry.n_kv_heads, len(problem.bands))
    width = problem.limits(torch.zeros(loaded.geometry.n_layers, len(problem.bands), 2)).shape[1]
    drawn = torch.randn(*zero.shape[:2], width, generator=torch.Generator().manual_seed(1)) / 4
    ids = problem.windows("calibration", 48, 1)
    objective = KLObjective(loaded, Condition(TIED), problem.spec, problem.bands, ids, problem.groups)
    with torch.no_grad(), objective._open() as model:
        found = model.hidden(ids[0], drawn)[:-1]
    wanted = hidden_states(loaded, Condition(TIED, QuantSpec(), problem.scales(drawn)), ids, 47)[0]
    plain = hidden_states(loaded, Condition(TIED), ids, 47)[0]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-4)


def test_a_polish_moves_maps_too(tiny):
    outcome = run(
        tiny(), angles=True, maps=True, objective="kl", steps=4, polish_steps=6, polish_windows=2, polish_length=48
    )
    history = {c.label: c.objective for c in outcome.report.history}
    assert outcome.found.mixes
    assert outcome.report.objective_found == min(history[x] for x in ("identity", "cached result", "polish result"))


def test_maps_without_angles_or_without_a_tie_are_refused(tiny):
    with pytest.raises(BadSpec, match="together with pair angles"):
        SearchSpec(maps=True)
    with pytest.raises(BadSpec, match="a frequency of its own"):
        run(tiny(), rope=replace(TIED, tie=()), angles=True, maps=True)


def test_scales_by_hand_are_held_against_maps_of_the_search_in_one_probe(tiny, monkeypatch):
    """The probe's value of the maps found is the search's own; scales alone are worth what they are without maps."""
    from qroar_core.scale_search import manual_scales

    monkeypatch.setattr(manual_scales, "BUDGET", 1e9)  # no row is left out
    setting = Setting(TIED, INT4, search=asked(angles=True, maps=True, steps=12))
    found = search.run(tiny(), setting, TEXTS)
    probe = search.probe(tiny(), setting, TEXTS)
    plain = search.probe(tiny(), replace(setting, search=setting.search.without_maps(angles=False)), TEXTS)
    assert probe.value(found.found) == pytest.approx(found.report.objective_found, rel=0.2)  # of fewer windows
    assert probe.value(found.found) < 0.9
    hand = probe.scales((0.5, -0.5, 0.25, 0.0))
    assert probe.value(hand) == pytest.approx(plain.value(hand), rel=1e-6)
    assert probe.value(probe.smooth) == pytest.approx(plain.value(plain.smooth), rel=1e-6)
    assert probe.alone(hand) == pytest.approx(plain.alone(hand), rel=1e-6)
