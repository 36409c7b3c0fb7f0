"""The evaluation against plain transformers, plain Python statistics, and cases with a known answer."""

import math
import statistics

import pytest
import torch

from qroar_core.errors import BadSpec, BadText
from qroar_core.evaluation import run as evaluate
from qroar_core.models.text import Document, windows
from qroar_core.setting import Setting
from qroar_core.specs import EvaluationSpec, QuantizerSpec, QuantSpec, RopeSpec
from qroar_core.statistics.intervals import mean_interval, paired_interval
from qroar_core.transforms.scales import Scales, identity

TEXT = [
    Document("a", "".join(chr(97 + (i * i + 3 * i) % 26) for i in range(900))),
    Document("b", "".join(chr(97 + (i * 7 + i // 5) % 26) for i in range(900))),
]
INT4 = QuantSpec(k=QuantizerSpec(4))


def row(result, length, model, scales):
    return next(r for r in result.rows if (r.length, r.model, r.scales) == (length, model, scales))


def repairing(case):
    g = torch.ones(2, 2, len(case.bands), dtype=torch.float64)
    g[case.layer, case.kv_head, case.band] = case.factor
    return Scales("symmetric", "kv_head", case.bands, g)


def test_reference_nll_is_transformers_own_on_the_same_targets(tiny):
    loaded = tiny()
    spec = EvaluationSpec(lengths=(32, 96), windows=4, targets=16)
    result = evaluate.run(loaded, Setting(RopeSpec(), QuantSpec(), evaluation=spec), None, None, TEXT)
    ids = windows(loaded.tokenizer, TEXT, 96, 4).ids
    for length in (32, 96):
        with torch.inference_mode():
            logits = loaded.model(ids[:, -length:]).logits[:, -17:-1]
        nll = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, -16:].flatten(), reduction="none")
        per_window = nll.view(4, 16).double().mean(1).tolist()
        found = row(result, length, "reference", "identity")
        assert found.nll == pytest.approx(statistics.fmean(per_window), abs=1e-5)
        assert found.nll_se == pytest.approx(statistics.stdev(per_window) / 2, abs=1e-5)
        assert found.ppl == pytest.approx(math.exp(found.nll))
        assert found.tokens == 64
        assert found.kl_mean == pytest.approx(0.0, abs=1e-7)
        assert found.same_top1 == 1.0


def test_kl_matches_a_float64_sum_over_the_vocabulary(planted):
    case = planted()
    spec = EvaluationSpec(lengths=(64,), windows=2, targets=8, rotation=False)
    result = evaluate.run(case.loaded, Setting(RopeSpec(), INT4, evaluation=spec), repairing(case), None, TEXT)
    from qroar_core.models.stream import Condition, open_stream

    ids = windows(case.loaded.tokenizer, TEXT, 64, 2).ids
    table = []
    for condition in (Condition(), Condition(quant=INT4)):
        with open_stream(case.loaded, condition, 64, batch=2) as stream:
            hidden = torch.cat([p.hidden for p in stream.run(ids)], 1)[:, -9:-1].double()
        table.append(torch.log_softmax(hidden @ case.loaded.model.lm_head.weight.double().T, -1))
    kl = (table[0].exp() * (table[0] - table[1])).sum(-1)
    found = row(result, 64, "quantized", "identity")
    assert found.kl_mean == pytest.approx(float(kl.mean()), rel=1e-3)
    assert found.kl_p99 == pytest.approx(float(kl.flatten().quantile(0.99)), rel=1e-3)
    nll = [-t.gather(-1, ids[:, -8:, None])[..., 0] for t in table]
    assert found.close.ln_ratio == pytest.approx(float((nll[1] - nll[0]).mean()), abs=1e-5)
    assert found.close.delta_p["100"] == pytest.approx(
        float(100 * (nll[1].neg().exp() - nll[0].neg().exp()).max()), rel=1e-3
    )
    assert found.same_top1 == pytest.approx(float((table[0].argmax(-1) == table[1].argmax(-1)).double().mean()))


def test_the_planted_outlier_is_repaired_and_attributed_to_quantization(planted):
    case = planted(factor=32.0)
    spec = EvaluationSpec(lengths=(64,), windows=8, rotation=False)
    result = evaluate.run(case.loaded, Setting(RopeSpec(), INT4, evaluation=spec), repairing(case), None, TEXT)
    kl = {s: row(result, 64, "quantized", s).kl_mean for s in ("identity", "tuned")}
    assert kl["tuned"] < 0.5 * kl["identity"]
    assert result.attribution.retuning == pytest.approx(0.0, abs=1e-4)  # symmetric scales do not move the reference
    assert result.attribution.quantization_repair == pytest.approx(result.gain.delta_nll, abs=1e-4)


def test_identity_as_tuned_is_no_significant_gain(tiny):
    loaded = tiny()
    same = identity(2, 2, ((0, 3), (4, 7)))
    spec = EvaluationSpec(lengths=(64,), windows=4, rotation=False)
    result = evaluate.run(loaded, Setting(RopeSpec(), INT4, evaluation=spec), same, None, TEXT)
    assert result.gain.delta_nll == 0.0
    assert not result.gain.significant
    assert result.sentence.startswith("no significant gain: keep identity")


def test_paired_interval_is_students_t_on_differences():
    before, after = [3.0, 2.5, 4.0, 3.2], [2.8, 2.4, 3.5, 3.1]
    found = paired_interval(before, after, 0.95)
    d = [0.2, 0.1, 0.5, 0.1]
    reach = 3.182446305284263 * statistics.stdev(d) / 2  # t(0.975, 3) from printed tables
    assert found.mean == pytest.approx(0.225)
    assert (found.low, found.high) == (pytest.approx(0.225 - reach), pytest.approx(0.225 + reach))
    assert not found.excludes_zero
    assert mean_interval([1.0]).high == math.inf


def test_rotation_is_measured_beside_the_rest_only_where_it_applies(tiny):
    loaded = tiny()
    spec = EvaluationSpec(lengths=(64,), windows=2)
    result = evaluate.run(loaded, Setting(RopeSpec(), INT4, evaluation=spec), None, None, TEXT)
    assert row(result, 64, "quantized", "rotation").nll != row(result, 64, "quantized", "identity").nll
    assert evaluate.rotated(QuantSpec(k=QuantizerSpec(4, scale="channel", group_size=8))) is None
    assert evaluate.rotated(QuantSpec(v=QuantizerSpec(4))) is None


def test_too_short_a_text_says_what_fits(tiny):
    with pytest.raises(BadText, match=r"longest document has 900 tokens, one window needs 2000; .*at most 900"):
        evaluate.run(
            tiny(), Setting(RopeSpec(), INT4, evaluation=EvaluationSpec(lengths=(2000,), windows=2)), None, None, TEXT
        )


def test_targets_that_fill_the_shortest_length_are_refused(tiny):
    with pytest.raises(BadSpec, match="32 targets need a length above that"):
        evaluate.run(
            tiny(), Setting(RopeSpec(), INT4, evaluation=EvaluationSpec(lengths=(32, 64), targets=32)), None, None, TEXT
        )


def test_rotation_with_scales_of_its_own_equals_the_tuned_row_of_the_rotated_quantizer(planted):
    """Oracle: the same evaluation asked of the rotated quantizer, where those scales are simply the tuned ones."""
    case = planted(factor=32.0)
    spec = EvaluationSpec(lengths=(64,), windows=4)
    scales = repairing(case)
    both = evaluate.run(
        case.loaded, Setting(RopeSpec(), INT4, evaluation=spec), None, None, TEXT, rotation_tuned=scales
    )
    alone = evaluate.run(case.loaded, Setting(RopeSpec(), evaluate.rotated(INT4), evaluation=spec), scales, None, TEXT)
    assert row(both, 64, "quantized", "rotation_tuned").nll == row(alone, 64, "quantized", "tuned").nll
    assert row(both, 64, "quantized", "rotation").nll == row(alone, 64, "quantized", "identity").nll
    assert both.rotation.added == pytest.approx(alone.gain.delta_nll)
    assert (both.rotation.added_ci_low, both.rotation.added_ci_high) == (alone.gain.ci_low, alone.gain.ci_high)
    plain = evaluate.run(case.loaded, Setting(RopeSpec(), INT4, evaluation=spec), None, None, TEXT)
    assert "rotation_tuned" not in {r.scales for r in plain.rows}
    assert plain.rotation.added is None


@pytest.mark.parametrize(
    "quant", [QuantSpec(), QuantSpec(v=QuantizerSpec(4)), QuantSpec(k=QuantizerSpec(4, rotation="hadamard"))]
)
def test_scales_for_a_rotation_that_does_not_apply_are_refused(tiny, quant):
    with pytest.raises(BadSpec, match="does not apply to this K quantizer, or it has one"):
        evaluate.run(
            tiny(),
            Setting(RopeSpec(), quant, evaluation=EvaluationSpec(lengths=(64,), windows=2)),
            None,
            None,
            TEXT,
            rotation_tuned=identity(2, 2, ((0, 3), (4, 7))),
        )


def test_the_cost_by_position_pairs_windows_at_every_point(tiny):
    """Oracle: NLL of every token from the stream, scipy's paired t-test at each of 32 runs of positions."""
    from scipy.stats import ttest_rel

    from qroar_core.models.stream import Condition
    from qroar_core.models.window_losses import measure

    loaded = tiny()
    spec = EvaluationSpec(lengths=(96,), windows=5, targets=70, rotation=False)
    found = evaluate.run(loaded, Setting(RopeSpec(), INT4, evaluation=spec), None, None, TEXT).positions
    ids = windows(loaded.tokenizer, TEXT, 96, 5).ids
    conditions = (Condition(), Condition(quant=INT4))
    nll = [measure(loaded, condition, ids, 70).nll.double().numpy() for condition in conditions]
    edges = [0]
    for point in range(32):
        edges.append(edges[-1] + (3 if point < 70 - 2 * 32 else 2))
    for point, (first, last) in enumerate(zip(edges, edges[1:])):
        ref, mine = (table[:, first:last].mean(1) for table in nll)
        expected = ttest_rel(mine, ref).confidence_interval(0.95)
        assert found.curves["quantized/identity"][point] == pytest.approx(mine.mean())
        assert found.cost_low["quantized/identity"][point] == pytest.approx(expected.low, abs=1e-9)
        assert found.cost_high["quantized/identity"][point] == pytest.approx(expected.high, abs=1e-9)
    assert "reference/identity" not in found.cost_low
