"""Values of a wrong kind, and counts of zero, get one line that says what to give, and no default."""

from __future__ import annotations

import html
from dataclasses import replace

import pytest

import qroar_core as qroar
from qroar_core.diagnostics.result_measured import MeasuredOn
from qroar_core.diagnostics.run import _paired_windows
from qroar_core.errors import BadSpec, BadText
from qroar_core.library.arguments import check_diagnosis
from qroar_core.specs import DiagnosisSpec, EvaluationSpec, RopeSpec
from tests.helpers import planted, planted_retrieval


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"rope": "yarn"}, "must be an interpolation, got 'yarn'.*qroar.Rope"),
        ({"quantization": "int4"}, "must be what is quantized, got 'int4'.*qroar.quantization"),
        ({"length": "256"}, "must be a whole number of tokens, got '256'"),
        ({"length": True}, "must be a whole number of tokens"),
        ({"bands": 2.5}, "must be a whole number, or bands"),
        ({"text": 7}, "must be an embedded collection or a text file"),
        ({"seed": 1.5}, "must be a whole number, got 1.5"),
        ({"seed": -1}, "at least 0"),
        ({"bos": "maybe"}, "unknown bos 'maybe'.*choose one of auto"),
    ],
)
def test_a_setup_of_wrong_kinds_is_refused_when_it_is_made(wrong, words):
    with pytest.raises(BadSpec, match=words):
        qroar.Setup(**wrong)


def test_a_factor_that_is_no_number_is_refused():
    with pytest.raises(BadSpec, match="factor must be a number, got '4'"):
        RopeSpec("yarn", factor="4")


def test_a_text_file_that_is_not_there_is_one_line(tiny):
    setup = qroar.Setup(text="nofile.txt", quantization=qroar.quantization(k="int4"))
    with pytest.raises(BadText, match=r"nofile\.txt: No such file.*choose messages, technical, novels"):
        setup.resolve(tiny())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m, s: qroar.diagnose("demo", s), "model must be a loaded model, got 'demo'.*qroar.load"),
        (lambda m, s: qroar.diagnose(m, "yarn"), "setup must be a setup, got 'yarn'; give qroar.Setup"),
        (lambda m, s: qroar.diagnose(m, m), r"setup must be a setup, got Model [^;]{20,80} \.\.\.; give qroar.Setup"),
        (lambda m, s: qroar.evaluate(m, s, "scales.json"), "transform must be a transform, got 'scales.json'"),
        (lambda m, s: qroar.evaluate(m, s, lengths=256), r"lengths must be a list, got 256.*lengths=\[256\]"),
        (lambda m, s: qroar.compare(m, s, remedies="awq"), r"remedies must be a list, got 'awq'"),
        (lambda m, s: qroar.evaluate(m, s, windows=0), "windows must be at least"),
        (lambda m, s: qroar.search(m, s, windows=0), "windows must be at least"),
        (lambda m, s: qroar.export(m, s, None, None), "folder must be a path, got None; name a folder"),
        (lambda m, s: qroar.search(m, s, on_step=None), "on_step must be a function, got None; give a function"),
        (lambda m, s: qroar.retrieve(m, s, on_step=1), "on_step must be a function, got 1"),
        (lambda m, s: qroar.load("demo", device="tpu"), r"load\(device=...\): unknown device 'tpu'; choose auto"),
        (lambda m, s: qroar.load("demo", dtype="int3"), r"load\(dtype=...\): unknown dtype 'int3'"),
        (lambda m, s: qroar.load("demo", on_step=None), "on_step must be a function, got None"),
        (
            lambda m, s: qroar.evaluate(m, s, spec=EvaluationSpec(lengths=(64,), rotation_scales=True)),
            "evaluate.*rotation_scales.*no scales of the rotated quantizer are measured; drop it, or take `qroar run",
        ),
    ],
)
def test_a_call_with_a_wrong_kind_or_no_windows_is_refused(tiny, call, words):
    with pytest.raises(BadSpec, match=words):
        call(tiny(), qroar.Setup(length=64, quantization=qroar.quantization(k="int4")))


def test_a_search_takes_a_diagnosis_of_its_model_and_setup_alone(tiny):
    model, int4 = tiny(head_dim=8), qroar.quantization(k="int4")
    setup = qroar.Setup(rope=qroar.Rope("yarn", factor=2), length=64, bands=2, quantization=int4)
    setting = setup.resolve(model)
    whose = MeasuredOn.of(model.name, model.fingerprint, setting.rope, setting.quant)
    mine = planted.diagnosis().model_copy(update={"measured": whose})
    check_diagnosis(mine, model, setting)
    renamed = replace(setting, quant=replace(setting.quant, name="by another name"))
    check_diagnosis(mine, model, renamed)
    other = tiny(head_dim=8, seed=7)
    for diagnosis, on, under, words in (
        ("diagnosis.json", model, setup, "diagnosis must be a diagnosis, got 'diagnosis.json'; give what"),
        (planted.diagnosis(), model, setup, "of an older version and does not name its model; diagnose this model"),
        (mine, other, setup, f"it is of {model.name} .{model.fingerprint}., this model is"),
        (mine, model, replace(setup, rope=qroar.Rope("linear", factor=2)), "under another interpolation"),
        (mine, model, replace(setup, rope=qroar.Rope("yarn", factor=2.5)), "under another interpolation"),
        (mine, model, replace(setup, quantization=qroar.quantization(k="int8")), "under other quantizers"),
        (mine, model, replace(setup, bands=3), "its frequency bands are not the search's"),
    ):
        with pytest.raises(BadSpec, match=words):
            qroar.search(on, under, diagnosis=diagnosis, windows=1)


@pytest.mark.parametrize("length", [-1, 7, 8, 12, 26, 63])
def test_a_context_too_short_to_diagnose_says_the_one_length_that_goes(tiny, length):
    int4 = qroar.quantization(k="int4")
    with pytest.raises(BadSpec, match=f"{length} tokens are too few to diagnose; give at least 64$"):
        qroar.diagnose(tiny(head_dim=8), qroar.Setup(length=length, bands=2, quantization=int4))


def test_windows_behind_too_short_a_context_name_the_same_length():
    for length in (12, 26):
        with pytest.raises(BadSpec, match="give a length of at least 64 or shorter windows"):
            _paired_windows(DiagnosisSpec(), length, length // 2, 0)
    assert len(_paired_windows(DiagnosisSpec(), 64, 32, 0)[1]) >= 2


def test_a_transform_names_its_figures_and_refuses_others():
    transform = qroar.Transform.of(planted.scales())
    assert transform.figures() == ["scales"]
    with pytest.raises(BadSpec, match="no figure 'angles' of this transform; choose one of scales"):
        transform.plot("angles")


def test_a_retrieval_prints_one_line_a_question_and_models_and_setups_show_in_a_notebook(tiny):
    said = repr(qroar.Retrieval.of(planted_retrieval.retrieval()))
    assert len(said.splitlines()) == 2
    assert len(said) < 400
    for thing in (tiny(), qroar.Setup(rope=qroar.Rope("yarn", factor=2))):
        assert html.escape(repr(thing)) in thing._repr_html_()
