"""Scales that overflow are refused candidates of a search; a model that overflows without them ends it in one line."""

from __future__ import annotations

import math

import pytest
import torch

from qroar_core.errors import BadSpec, NonFinite
from qroar_core.models.condition import Condition
from qroar_core.scale_search.guard import WindowScorer, guarded
from qroar_core.scale_search.objectives.full import FullObjective
from qroar_core.scale_search.objectives.kl import KLObjective
from qroar_core.scale_search.result import HistoryPoint
from qroar_core.specs import QuantizerSpec, QuantSpec, RopeSpec, SearchSpec
from qroar_core.transforms.scales import Scales

INT4 = QuantSpec(k=QuantizerSpec(4))
BANDS = ((0, 7),)
SPEC = SearchSpec(mode="shared")


@pytest.fixture
def half(tiny):
    return tiny(dtype=torch.float16)


def log2(value: float) -> torch.Tensor:
    return torch.full((2, 2, 1), value)


def broken(loaded):
    with torch.no_grad():
        loaded.model.get_parameter("model.layers.1.self_attn.k_proj.weight").mul_(30_000.0)
    return loaded


def test_the_full_objective_of_scales_that_overflow_is_infinite(half, ids):
    objective = FullObjective(half, RopeSpec(), INT4, SPEC, BANDS, ids(2, 40), (40,))
    assert math.isfinite(objective.value(log2(0.0)))
    assert objective.value(log2(15.0)) == math.inf
    with pytest.raises(NonFinite, match="k of layer 1"):
        FullObjective(broken(half), RopeSpec(), INT4, SPEC, BANDS, ids(2, 40), (40,)).value(log2(0.0))


def test_the_kl_objective_of_scales_that_overflow_is_infinite_and_its_gradient_is_refused(half, ids):
    objective = KLObjective(half, Condition(RopeSpec(), INT4), SPEC, BANDS, ids(2, 40))
    assert math.isfinite(objective.value(log2(0.0)))
    assert objective.value(log2(15.0)) == math.inf
    with pytest.raises(NonFinite, match="the gradient of the KL on window 1 is not finite; float16 ends at 65504"):
        objective.gradient(log2(15.0), 1)


def test_a_candidate_that_overflowed_is_written_and_read():
    one = HistoryPoint(step=1, label="band 0", objective=math.inf, best=3.0)
    assert HistoryPoint.model_validate_json(one.to_json()) == one


def test_the_guard_halves_scales_that_overflow(half, ids):
    def told(octaves):
        scales = Scales("shared", "kv_head", BANDS, torch.full((2, 2, 1), 2.0**octaves, dtype=torch.float64))
        return guarded(WindowScorer(half, RopeSpec(), INT4, lambda step: None), scales, ids(2, 40), 1e9)

    kept, said = told(80.0)  # 2^20 still overflows
    assert kept is None
    assert said.startswith("costs +inf nats at 40 tokens even quartered")
    kept, said = told(18.0)
    assert kept is not None
    assert said.startswith("halved toward identity, costs ")


@pytest.mark.parametrize("factor", [1.1e7, 1e308])
def test_a_factor_past_any_memory_is_refused(factor):
    with pytest.raises(BadSpec, match=r"factor must be at most 1e\+07"):
        RopeSpec("yarn", factor)
