"""Searching value maps: what they gain, what they leave alone, and where they are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from qroar_core.errors import BadSpec
from qroar_core.models.capture import capture
from qroar_core.models.condition import Condition
from qroar_core.models.window_losses import hidden_states
from qroar_core.scale_search import run as search
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.scale_search.value_search import _best, find_value_maps
from qroar_core.setting import Setting
from qroar_core.specs import QuantizerSpec, QuantSpec, RopeSpec, SearchSpec
from tests.scale_search.cancelled import ROPE, stopped
from tests.scale_search.searching import TEXTS, asked

BOTH = QuantSpec(k=QuantizerSpec(4), v=QuantizerSpec(4))
ONLY_V = QuantSpec(v=QuantizerSpec(4))


def loud_channel(loaded, factor=16.0):
    """Channel 3 of every KV head's V times `factor`, W_O's columns divided by it: the same model, rounded badly."""
    geo = loaded.geometry
    for layer in loaded.model.model.layers:
        attention = layer.self_attn
        for head in range(geo.n_kv_heads):
            attention.v_proj.weight.data[head * geo.head_dim + 3] *= factor
        for head in range(geo.n_heads):
            attention.o_proj.weight.data[:, head * geo.head_dim + 3] /= factor
    return loaded


def run(loaded, quant, **fields):
    return search.run(loaded, Setting(RopeSpec(), quant, search=asked(**fields)), TEXTS)


def output_error(loaded, scales):
    """Square error of the last hidden states under a rounded V, on text that no search has read."""
    problem = SearchProblem(loaded, RopeSpec(), ONLY_V, asked(), TEXTS)
    ids = problem.windows("heldout", 64, 2)
    exact = hidden_states(loaded, Condition(RopeSpec()), ids, 63)
    return float((hidden_states(loaded, Condition(RopeSpec(), ONLY_V, scales), ids, 63) - exact).square().sum())


def test_maps_of_v_are_found_where_only_v_is_rounded_and_scales_stay(tiny):
    loaded = loud_channel(tiny())
    outcome = run(loaded, ONLY_V, value_maps=True)
    assert "Value maps can act" in outcome.report.verdict.reason
    assert outcome.found.keeps_keys
    assert outcome.found.mixes_values
    assert 0 < outcome.report.value_maps.error_left < 0.2
    assert sum(outcome.report.value_maps.chosen.values()) == 2 * loaded.geometry.n_kv_heads
    assert output_error(loaded, outcome.found) < 0.2 * output_error(loaded, None)
    assert outcome.smooth.value_maps is None
    assert outcome.mad.value_maps is None


def test_the_search_of_k_does_not_feel_them(tiny):
    plain, maps = run(tiny(), BOTH, steps=8), run(tiny(), BOTH, steps=8, value_maps=True)
    assert torch.equal(plain.found.g, maps.found.g)
    assert plain.report.objective_found == maps.report.objective_found
    assert [c.label for c in plain.report.history] == [c.label for c in maps.report.history]
    assert plain.report.value_maps is None
    assert maps.found.value_maps.shape == (2, 2, 16, 16)


def test_each_head_keeps_the_best_that_was_tried_and_its_file_holds_it(tiny):
    """The error that is reported is that of the maps as they are written, heads apart."""
    loaded = loud_channel(tiny())
    problem = SearchProblem(loaded, RopeSpec(), ONLY_V, asked(value_maps=True), TEXTS)
    taken = capture(loaded, RopeSpec(), problem.windows("calibration", 64, 2), 16)
    found = find_value_maps(taken, QuantizerSpec(4), lambda step: None)
    assert torch.equal(found.maps, found.maps.round(decimals=8))
    shares = []
    for layer in range(2):
        error, none = torch.zeros(2, 2).double().unbind()
        for window in taken.windows:
            here = window[layer]
            logits = taken.scaling * here.q.view(2, -1, 16) @ here.k.mT
            ahead = torch.arange(64) > here.rows.repeat(loaded.geometry.queries_per_kv)[:, None]
            p = logits.masked_fill(ahead, -torch.inf).softmax(-1)
            for total, maps in ((error, found.maps[layer]), (none, torch.eye(16).double().expand(2, 16, 16))):
                mixed = here.v.double() @ maps.mT
                step = mixed.abs().amax(-1, keepdim=True) / 7
                back = (mixed / step).round() * step @ torch.linalg.inv(maps).mT
                moved = (p.double() @ (back - here.v)).view(2, -1, len(here.rows), 16)
                metric = taken.metric[layer].double().view(2, -1, 16, 16)
                total += torch.einsum("kgri,kgij,kgrj->k", moved, metric, moved)
        shares.append(error / none)
    assert found.report.error_left == pytest.approx(float(torch.stack(shares).mean()), rel=1e-2)


def test_heads_that_share_one_step_choose_together(tiny):
    errors = {"identity": torch.tensor([1.0, 9.0]), "spread": torch.tensor([2.0, 1.0])}
    assert _best(errors, shared_step=False) == ["identity", "spread"]
    assert _best(errors, shared_step=True) == ["spread", "spread"]
    assert _best({name: torch.ones(2) for name in errors}, shared_step=False) == ["identity"] * 2
    loaded = loud_channel(tiny())
    spec = QuantizerSpec(4, scale="tensor")
    problem = SearchProblem(loaded, RopeSpec(), QuantSpec(v=spec), asked(value_maps=True), TEXTS)
    taken = capture(loaded, RopeSpec(), problem.windows("calibration", 64, 2), 16)
    found = find_value_maps(taken, spec, lambda step: None)
    assert all(count % loaded.geometry.n_kv_heads == 0 for count in found.report.chosen.values())
    assert found.report.error_left < 1


def test_a_cancelled_search_goes_on_with_the_same_maps(tiny):
    spec, rope = asked(value_maps=True, steps=12), ROPE
    setting = Setting(rope, BOTH, search=spec)
    whole = search.run(tiny(), setting, TEXTS)
    left = stopped(tiny(), spec, "gradient step 5", rope=rope, quant=BOTH)
    assert torch.equal(left.found.value_maps, whole.found.value_maps)
    assert left.kept.is_identity
    again = search.run(tiny(), setting, TEXTS, resume=left)
    assert torch.equal(again.found.value_maps, whole.found.value_maps)
    last = [c.objective for c in again.report.history if c.label == "gradient step 12"]
    assert last == [c.objective for c in whole.report.history if c.label == "gradient step 12"]


def test_where_v_is_not_rounded_they_are_refused(tiny):
    with pytest.raises(BadSpec, match=r"V is not quantized here.*quantize V as well, for example by --v int4") as error:
        run(tiny(), QuantSpec(k=QuantizerSpec(4)), value_maps=True)
    assert "\n" not in str(error.value)


def test_objectives_of_the_whole_model_do_not_search_them():
    with pytest.raises(BadSpec, match="the kl objective searches no value maps"):
        SearchSpec(objective="kl", value_maps=True)


def test_scales_that_cannot_act_are_not_searched_beside_them(tiny):
    """K per channel commutes with scales: no gain of noise."""
    quant = replace(BOTH, k=QuantizerSpec(4, scale="channel", group_size=8))
    outcome = run(loud_channel(tiny()), quant, value_maps=True)
    assert outcome.found.keeps_keys
    assert outcome.found.mixes_values
