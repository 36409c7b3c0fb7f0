"""The claim on a real model: SmolLM2, YaRN x2, K cache int4 per token and head, 512-token windows.

A smaller budget than the benchmark's (fewer and shorter windows, fewer steps), so the bars are lower than what
`python -m benchmarks smollm2` prints; the order reference < tuned < SmoothAttention < identity is the claim.
"""

import math

import pytest

from qroar_core.models.patch import apply_scales, undo_scales
from qroar_core.models.text import SPLITS, split, windows
from qroar_core.scale_search import run as search
from qroar_core.scale_search.guard import WindowScorer
from qroar_core.setting import Setting
from qroar_core.specs import QuantizerSpec, QuantSpec, RopeSpec, SearchSpec

YARN, INT4 = RopeSpec("yarn", 2.0), QuantSpec(k=QuantizerSpec(4))

pytestmark = [pytest.mark.smollm2, pytest.mark.slow]


def test_scales_repair_a_real_models_int4_cache(smollm2, monkeypatch):
    monkeypatch.setattr("qroar_core.scale_search.validation.WINDOWS", 3)
    texts = {name: split(name, "technical") for name in SPLITS}
    spec = SearchSpec(length=512, windows=2, steps=12)
    outcome = search.run(smollm2, Setting(YARN, INT4, search=spec), texts)
    held = windows(smollm2.tokenizer, texts["heldout"], 512, 2).ids
    scorer = WindowScorer(smollm2, YARN, INT4, lambda step: None)
    plain = WindowScorer(smollm2, YARN, QuantSpec(), lambda step: None)
    nll = {
        "reference": sum(plain.nll(held, None, "")) / 2,
        "identity": sum(scorer.nll(held, None, "")) / 2,
        "smooth": sum(scorer.nll(held, outcome.smooth, "")) / 2,
        "tuned": sum(scorer.nll(held, outcome.found, "")) / 2,
    }
    assert nll["reference"] < nll["tuned"] < nll["smooth"] < nll["identity"]
    gap = nll["identity"] - nll["reference"]
    assert gap > 0.3  # nats: interpolation plus int4 really hurts this model
    assert (nll["identity"] - nll["tuned"]) / gap > 0.3
    assert 1 - math.exp(nll["tuned"] - nll["identity"]) > 0.1
    assert outcome.report.chosen == "found"
    assert outcome.report.objective_found < 0.7


def test_apply_and_undo_are_bit_for_bit_on_a_real_model(smollm2):
    import torch

    from qroar_core.transforms.scales import Scales

    geo = smollm2.geometry
    g = torch.rand(geo.n_layers, geo.n_kv_heads, 8, dtype=torch.float64) + 0.5
    bands = tuple((4 * b, 4 * b + 3) for b in range(8))
    before = {
        name: p.detach().clone() for name, p in smollm2.model.named_parameters() if "q_proj" in name or "k_proj" in name
    }
    apply_scales(smollm2, Scales("symmetric", "kv_head", bands, g))
    changed = [
        name for name, p in smollm2.model.named_parameters() if name in before and not torch.equal(p, before[name])
    ]
    assert len(changed) == 60
    undo_scales(smollm2)
    for name, parameter in smollm2.model.named_parameters():
        if name in before:
            assert torch.equal(parameter, before[name]), name
