"""What a tie does to attention, from one capture without it: against captures under the tie, and against its limits."""

from dataclasses import replace

import pytest
import torch

from qroar_core.interpolations.tie import Tie
from qroar_core.models.capture import capture
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.scale_search.tie_effects import TieEffects, _turned_further, turned_by
from qroar_core.specs import QuantizerSpec, QuantSpec, RopeSpec
from tests.scale_search.searching import INT4, TEXTS, asked

YARN = RopeSpec("yarn", 4.0)
TIES = (Tie(10, 12), Tie(13, 15, 0.0))


@pytest.fixture
def problem(tiny):
    return SearchProblem(tiny(head_dim=32), YARN, INT4, asked(), TEXTS)


@pytest.fixture
def effects(problem):
    ids = problem.windows("development", 64, 2)
    return TieEffects(problem, capture(problem.loaded, YARN, ids, 16))


def test_turning_what_was_read_is_reading_under_the_tie(problem):
    """The first layer's inputs know no RoPE, so its q and k under a tie are those without, turned further."""
    ids = problem.windows("development", 64, 1)
    plain, there = (capture(problem.loaded, rope, ids, 16) for rope in (YARN, replace(YARN, tie=TIES)))
    further = _turned_further(problem, TIES)[0]
    moved = turned_by(plain.windows[0][0], further, problem.loaded.geometry.pairing)
    for mine, own in ((moved.q, there.windows[0][0].q), (moved.k, there.windows[0][0].k)):
        assert torch.allclose(mine, own, atol=2e-6)
    assert not torch.allclose(plain.windows[0][0].k, there.windows[0][0].k, atol=1e-3)


def test_no_tie_costs_nothing_and_a_wider_tie_costs_more(effects):
    none, narrow, wide = (effects.of(ties) for ties in ((), (Tie(14, 15),), (Tie(2, 15),)))
    assert none.cost == 0.0
    assert 0 < narrow.cost < wide.cost


def test_the_cost_is_the_change_of_the_first_layers_output(problem, effects):
    """By hand in float64: softmax of logits under the tie and without, through W_O, over what int4 changes."""
    geo, layer = problem.loaded.geometry, effects.taken.windows
    further = _turned_further(problem, TIES)[0]

    def out(window, quantized=False, tied=False):
        one = layer[window][0]
        if tied:
            one = turned_by(one, further, geo.pairing)
        q, k, v = one.q.double(), one.k.double(), one.v.double()
        if quantized:
            step = k.abs().amax(-1, keepdim=True) / 7
            k = (k / step).round().clamp(-7, 7) * step
        k, v = (x.repeat_interleave(geo.n_heads // geo.n_kv_heads, 0) for x in (k, v))
        logits = effects.taken.scaling * q @ k.mT
        logits = logits.masked_fill(torch.arange(k.shape[1])[None] > one.rows[:, None], -torch.inf)
        return logits.softmax(-1) @ v

    w_o = problem.loaded.model.model.layers[0].self_attn.o_proj.weight.double()

    def moved(**how):
        """Each head's change by itself, as the metric counts it."""
        per_head = w_o.view(w_o.shape[0], geo.n_heads, -1)
        changes = [out(w, **how) - out(w) for w in range(len(layer))]
        return sum(float(torch.einsum("hrd,ohd->hro", change, per_head).square().sum()) for change in changes)

    assert float(effects.alone[0]) == pytest.approx(moved(quantized=True), rel=1e-4)
    assert float(effects._error(TIES, QuantSpec(), spread=False)[0]) == pytest.approx(moved(tied=True), rel=1e-4)


def test_maps_are_counted_where_a_tie_leaves_room_for_them(tiny):
    """One loud pair of four tied ones: spread over them it leaves less than alone, beyond what scales leave."""
    loaded = tiny(head_dim=32)
    for layer in loaded.model.model.layers:
        layer.self_attn.k_proj.weight.data.view(-1, 32, loaded.geometry.hidden_size)[:, [15, 31]] *= 8
    problem = SearchProblem(loaded, YARN, QuantSpec(k=QuantizerSpec(4)), asked(), TEXTS)
    taken = capture(loaded, YARN, problem.windows("development", 64, 2), 16)
    found = TieEffects(problem, taken)
    alone, here, elsewhere = (found.of(ties).left for ties in ((), (Tie(12, 15),), (Tie(8, 11),)))
    assert here < 0.75 * alone
    assert alone - elsewhere < 0.5 * (alone - here)  # the loud pair is not in that group
