"""Claims on tiny models: their figures against the evaluation's numbers and windows cut by hand."""

import math
import statistics

import pytest
import torch
from scipy import stats

from qroar_core.errors import BadSpec
from qroar_core.evaluation import run as evaluate
from qroar_core.evidence.replication import measure as replicate
from qroar_core.evidence.replication.measure import ReplicationSetting, measure_claims
from qroar_core.models.stream import Condition
from qroar_core.models.text import Document, windows
from qroar_core.models.window_losses import measure
from qroar_core.setting import Setting
from qroar_core.specs import EvaluationSpec, QuantizerSpec, QuantSpec, ReplicationSpec, RopeSpec
from qroar_core.transforms.scales import Scales, identity
from tests.helpers import planted as drawn

TEXT = [
    Document("a", "".join(chr(97 + (i * i + 3 * i) % 26) for i in range(1500))),
    Document("b", "".join(chr(97 + (i * 7 + i // 5) % 26) for i in range(1500))),
]
YARN, OWN, INT4 = RopeSpec("yarn", 4.0), RopeSpec(), QuantSpec(k=QuantizerSpec(4))
NATIVE = 64  # of the tiny models
SPEC = ReplicationSpec(length=200, short_length=48, windows=4)


def tuned(case, mode="symmetric"):
    g = torch.ones(2, 2, len(case.bands), dtype=torch.float64)
    g[case.layer, case.kv_head, case.band] = case.factor
    return Scales(mode, "kv_head", case.bands, g)


def claims_of(loaded, case, spec=SPEC):
    (result,) = measure_claims(loaded, [case], spec, TEXT).cases
    return {claim.name: claim for claim in result.claims}


def costs(loaded, rope, length, targets, spec=SPEC):
    """What int4 costs each window, by the evaluation."""
    asked = EvaluationSpec(lengths=(length,), windows=spec.windows, targets=targets, rotation=False)
    ids = windows(loaded.tokenizer, TEXT, spec.length, spec.windows).ids
    cut = [Document(f"{i}", loaded.tokenizer.decode(row[-length:].tolist())) for i, row in enumerate(ids)]
    nll = evaluate.run(loaded, Setting(rope, INT4, evaluation=asked), None, None, cut).window_nll
    return [q - r for q, r in zip(*(nll[f"{length}/{m}/identity"] for m in ("quantized", "reference")), strict=True)]


def test_past_the_native_window_the_same_targets_are_compared(planted):
    case = planted()
    claims = claims_of(case.loaded, ReplicationSetting(YARN, INT4, tuned(case)))
    far, near = costs(case.loaded, YARN, 200, 24), costs(case.loaded, OWN, 48, 24)
    assert claims["amplified_long"].value.mean == pytest.approx(
        statistics.fmean(far) - statistics.fmean(near), abs=1e-6
    )
    assert "the last 24 tokens of 200 and of 48" in claims["amplified_long"].detail


def test_short_contexts_are_all_pieces_of_the_windows(planted):
    case = planted()
    scales = tuned(case)
    claims = claims_of(case.loaded, ReplicationSetting(YARN, INT4, scales))
    ids = windows(case.loaded.tokenizer, TEXT, 200, 4).ids
    pieces = torch.cat([ids[:, 200 - 48 * (j + 1) : 200 - 48 * j] for j in range(4)])

    def nll(rope, quant, these=None):
        return measure(case.loaded, Condition(rope, quant, these), pieces, 47).nll.double().mean()

    cost = float(nll(YARN, INT4, scales) - nll(YARN, INT4))
    assert claims["short_context"].value.mean == pytest.approx(cost, abs=1e-6)
    more = [float(nll(rope, INT4) - nll(rope, QuantSpec())) for rope in (YARN, OWN)]
    assert claims["amplified"].value.mean == pytest.approx(more[0] - more[1], abs=1e-6)


def test_perplexity_is_cut_as_the_evaluation_counts_it(planted):
    case = planted(factor=64.0)
    scales = tuned(case)
    claims = claims_of(case.loaded, ReplicationSetting(YARN, INT4, scales))
    asked = EvaluationSpec(lengths=(200,), windows=4, rotation=False)
    found = evaluate.run(case.loaded, Setting(YARN, INT4, evaluation=asked), scales, None, TEXT)
    ppl = {row.scales: row.ppl for row in found.rows if row.model == "quantized"}
    assert claims["perplexity"].value.mean == pytest.approx(100 * (1 - ppl["tuned"] / ppl["identity"]), abs=1e-4)
    before, after = (found.window_nll[f"200/quantized/{which}"] for which in ("identity", "tuned"))
    gain = stats.ttest_rel(before, after).confidence_interval(SPEC.confidence)
    ends = claims["perplexity"].value.low, claims["perplexity"].value.high
    assert ends == pytest.approx([100 * (1 - math.exp(-end)) for end in gain], abs=1e-4)


def test_within_the_native_window_one_length_serves_both(planted):
    case = planted()
    spec = ReplicationSpec(length=60, short_length=15, windows=4)
    claims = claims_of(case.loaded, ReplicationSetting(YARN, INT4, tuned(case)), spec)
    here, own = costs(case.loaded, YARN, 60, 59, spec), costs(case.loaded, OWN, 60, 59, spec)
    assert claims["amplified"].value.mean == pytest.approx(statistics.fmean(here) - statistics.fmean(own), abs=1e-6)
    assert claims["amplified_long"].verdict == "not testable here"
    assert "60 tokens lie within the native window of 64" in claims["amplified_long"].detail


def test_what_a_setting_cannot_say_is_said(planted):
    case = planted()
    own = claims_of(case.loaded, ReplicationSetting(OWN, INT4, tuned(case, "shared"), drawn.diagnosis()))
    for name in ("amplified", "amplified_long", "pressure", "weighted_pressure"):
        assert (own[name].verdict, own[name].detail) == ("not testable here", "nothing is interpolated")
    assert own["short_context"].detail == "the scales are shared, the claim is about symmetric ones"
    assert own["tails_k"].verdict != "not testable here"
    none = claims_of(
        case.loaded, ReplicationSetting(YARN, INT4, identity(2, 2, case.bands), None, "an exact no-op here")
    )
    assert none["short_context"].detail == "an exact no-op here"
    assert none["perplexity"].verdict == "does not hold"
    assert none["perplexity"].detail.startswith("an exact no-op here; +0.0000 nats")
    assert none["tails_k"].detail == none["pressure"].detail == "nothing was diagnosed"


def test_a_condition_two_settings_share_is_measured_once(planted, monkeypatch):
    case, seen = planted(), []

    def counted(loaded, condition, ids, targets, **rest):
        seen.append((condition.rope.method, condition.quant.is_none, condition.scales is not None, tuple(ids.shape)))
        return measure(loaded, condition, ids, targets, **rest)

    monkeypatch.setattr(replicate, "measure", counted)
    pairs = [ReplicationSetting(RopeSpec(method, 4.0), INT4, tuned(case)) for method in ("yarn", "linear")]
    result = measure_claims(case.loaded, pairs, SPEC, TEXT)
    assert [c.name for c in result.cases] == ["YaRN ×4, K int4 per token", "linear ×4, K int4 per token"]
    assert len(seen) == len(set(seen)) == 14  # 2 under the own RoPE, 6 under each interpolation
    assert sum(method == "default" for method, *_ in seen) == 2


def test_impossible_questions_are_refused(planted):
    case = planted()
    with pytest.raises(BadSpec, match="quantize something"):
        measure_claims(case.loaded, [ReplicationSetting(YARN, QuantSpec(), tuned(case))], SPEC, TEXT)
    with pytest.raises(BadSpec, match="quantize something"):
        measure_claims(case.loaded, [], SPEC, TEXT)
    long = ReplicationSpec(length=200, short_length=NATIVE + 1, windows=2)
    with pytest.raises(BadSpec, match="must lie within the native window 64"):
        measure_claims(case.loaded, [ReplicationSetting(YARN, INT4, tuned(case))], long, TEXT)
