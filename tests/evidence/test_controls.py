"""The controls against the evaluation's own numbers, on a model with a planted outlier band that scales repair."""

import pytest
import torch

from qroar_core.errors import BadScales, BadSpec, Cancelled
from qroar_core.evaluation import run as evaluate
from qroar_core.evidence.controls import measure as controls
from qroar_core.models.number_format import in_format
from qroar_core.models.stream import Condition
from qroar_core.models.text import Document, windows
from qroar_core.models.window_losses import measure
from qroar_core.setting import Setting
from qroar_core.specs import ControlSpec, EvaluationSpec, QuantizerSpec, QuantSpec, RopeSpec
from qroar_core.transforms.scales import Scales, identity
from qroar_core.transforms.shuffled import shuffled_bands, shuffled_heads

TEXT = [
    Document("a", "".join(chr(97 + (i * i + 3 * i) % 26) for i in range(900))),
    Document("b", "".join(chr(97 + (i * 7 + i // 5) % 26) for i in range(900))),
]
ROPE, INT4 = RopeSpec("yarn", 2.0), QuantSpec(k=QuantizerSpec(4))
SPEC = ControlSpec(length=64, windows=4, shuffles=2, dtypes=("bfloat16",))


def repairing(case, factor=None, mode="symmetric"):
    g = torch.ones(2, 2, len(case.bands), dtype=torch.float64)
    g[case.layer, case.kv_head, case.band] = factor or case.factor
    return Scales(mode, "kv_head", case.bands, g)


def result_of(case, scales, **others):
    return controls.measure_controls(case.loaded, Setting(ROPE, INT4), scales, SPEC, TEXT, others=others)


def test_every_condition_is_what_its_name_says(planted):
    case = planted()
    scales, weak = repairing(case), repairing(case, 4.0)
    result = result_of(case, scales, novels=[weak], **{controls.OTHER_SEEDS: [weak, scales]})
    ids = windows(case.loaded.tokenizer, TEXT, 64, 4, 0).ids

    def nll(quant, these):
        return measure(case.loaded, Condition(ROPE, quant, these), ids, 63).per_window

    assert result.window_nll["reference/identity"] == [nll(QuantSpec(), None)]
    assert result.window_nll["reference/tuned"] == [nll(QuantSpec(), scales)]
    assert result.window_nll["quantized/identity"] == [nll(INT4, None)]
    assert result.window_nll["quantized/tuned"] == [nll(INT4, scales)]
    assert result.window_nll["shuffled bands"] == [nll(INT4, shuffled_bands(scales, seed)) for seed in (0, 1)]
    assert result.window_nll["shuffled heads"] == [nll(INT4, shuffled_heads(scales, seed)) for seed in (0, 1)]
    assert result.window_nll["novels"] == [nll(INT4, weak)]
    assert result.window_nll["other seeds"] == [nll(INT4, weak), nll(INT4, scales)]


def test_the_gain_is_the_evaluations_and_a_planted_repair_passes_every_control(planted):
    case = planted(factor=64.0)
    scales = repairing(case)
    result = result_of(case, scales)
    spec = EvaluationSpec(lengths=(64,), windows=4, rotation=False)
    told = evaluate.run(case.loaded, Setting(ROPE, INT4, evaluation=spec), scales, None, TEXT)
    by_kind = {c.kind: c for c in result.controls}
    gain = by_kind["tuned"].gain
    assert (gain.mean, gain.low) == pytest.approx((told.gain.delta_nll, told.gain.ci_low))
    assert abs(by_kind["unquantized"].gain.mean) < 1e-4
    assert by_kind["bands"].lost.mean > 0
    assert gain.mean > by_kind["heads"].least + 1e-3  # a draw may leave the one head that matters in its place
    good = {finding.about: finding.good for finding in result.findings}
    assert good["unquantized"] is True
    assert (result.length, result.windows, result.mode) == (64, 4, "symmetric")


def test_shared_scales_show_on_the_unquantized_model(planted):
    case = planted()
    result = result_of(case, repairing(case, 3.0, "shared"))
    assert abs(next(c for c in result.controls if c.kind == "unquantized").gain.mean) > 1e-3


def test_number_formats_are_measured_beside_the_loaded_one(planted):
    case = planted(factor=64.0)
    scales = repairing(case)
    formats = {one.dtype: one for one in result_of(case, scales).precisions}
    assert list(formats) == ["float32", "bfloat16"]
    assert formats["float32"].reference is None
    assert formats["bfloat16"].reference.mean != 0
    one = formats["bfloat16"]
    assert one.above.mean == pytest.approx(one.cost.mean - one.gain.mean)
    ids = windows(case.loaded.tokenizer, TEXT, 64, 4, 0).ids
    with in_format(case.loaded, torch.bfloat16) as cast:
        nll = [measure(cast, Condition(ROPE, INT4, these), ids, 63).nll.double().mean() for these in (None, scales)]
    assert one.gain.mean == pytest.approx(float(nll[0] - nll[1]))
    assert one.gain.mean > 0.01
    assert one.gain.mean != formats["float32"].gain.mean


def test_a_format_the_device_lacks_is_left_out_and_another_fault_is_not(planted, monkeypatch):
    case = planted()

    def lacking(dtype_words):
        def fail(loaded, *args, **kwargs):
            if loaded.dtype == torch.bfloat16:
                raise RuntimeError(dtype_words)
            return measure(loaded, *args, **kwargs)

        return fail

    monkeypatch.setattr(controls, "measure", lacking("\"addmm_impl_cpu_\" not implemented for 'BFloat16'"))
    (_, one) = result_of(case, repairing(case)).precisions
    assert (one.dtype, one.gain) == ("bfloat16", None)
    assert one.problem == "cpu does not compute in it"
    monkeypatch.setattr(controls, "measure", lacking("shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes"):
        result_of(case, repairing(case))


def test_nothing_to_control_is_refused(planted):
    case = planted()
    none = identity(2, 2, case.bands)
    with pytest.raises(BadScales, match="identity"):
        controls.measure_controls(case.loaded, Setting(ROPE, INT4), none, SPEC, TEXT)
    with pytest.raises(BadSpec, match="nothing is quantized"):
        controls.measure_controls(case.loaded, Setting(ROPE, QuantSpec()), repairing(case), SPEC, TEXT)


def test_progress_reaches_its_end_and_a_cancel_leaves_the_weights(planted):
    case, steps = planted(), []
    before = {name: p.data.clone() for name, p in case.loaded.model.named_parameters()}
    controls.measure_controls(case.loaded, Setting(ROPE, INT4), repairing(case), SPEC, TEXT, steps.append)
    shares = [step.fraction for step in steps]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0

    def stop(step):
        if step.what.endswith("in bfloat16"):
            raise Cancelled(step.stage)

    with pytest.raises(Cancelled):
        controls.measure_controls(case.loaded, Setting(ROPE, INT4), repairing(case), SPEC, TEXT, stop)
    assert all(torch.equal(p.data, before[name]) for name, p in case.loaded.model.named_parameters())
