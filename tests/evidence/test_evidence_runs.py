"""Which searches stand behind the evidence, on which texts and with which bounds; and one small real run of both."""

from dataclasses import replace

import pytest

from qroar_core.diagnostics import run as diagnose
from qroar_core.evidence.controls import run as controls
from qroar_core.evidence.replication import run as replicate
from qroar_core.evidence.replication.measure import NO_SCALES
from qroar_core.models.text import SPLITS, Document, split
from qroar_core.scale_search.search_without_decision import find_scales
from qroar_core.setting import default_setting
from qroar_core.specs import (
    ControlSpec,
    EvaluationSpec,
    HarnessSpec,
    QuantizerSpec,
    QuantSpec,
    ReplicationSpec,
    RopeSpec,
    SearchSpec,
    WeightQuantSpec,
)
from qroar_core.transforms.scales import identity
from tests.helpers.planted_task_scores import task_scores

INT4 = QuantSpec(k=QuantizerSpec(4))
YARN = RopeSpec("yarn", 2.0)


def document(name, seed):
    return [Document(name, "".join(chr(97 + (i * i + seed * i) % 26) for i in range(1200)))]


TEXTS = {name: document(name, seed) for seed, name in enumerate(SPLITS, 3)}


@pytest.fixture
def setting(tiny):
    loaded = tiny()
    base = default_setting(loaded, YARN, INT4, 64)
    search = SearchSpec(length=64, windows=1, steps=2, query_rows=8, granularity="kv_head")
    diagnosis = replace(base.diagnosis, windows=2, paired_tokens=8, query_rows=4, short_length=16)
    return loaded, replace(base, search=search, diagnosis=diagnosis, evaluation=EvaluationSpec(lengths=(64,)))


def test_seeds_keep_text_and_bounds_and_other_texts_keep_neither(setting, monkeypatch):
    loaded, setting = setting
    sought, given = [], {}
    monkeypatch.setattr(controls, "find_scales", lambda *a: sought.append(a) or len(sought))
    monkeypatch.setattr(controls, "measure_controls", lambda *a, **kw: given.update(kw, spec=a[3], texts=a[4]))
    spec = ControlSpec(seeds=(7, 8), collections=("novels",), windows=3)
    controls.run(loaded, setting, "the tuned", spec, TEXTS, "the diagnosis")
    assert [(a[1].search.seed, a[3]) for a in sought] == [(7, "the diagnosis"), (8, "the diagnosis"), (0, None)]
    assert sought[0][2] is TEXTS
    assert sought[2][2] == {name: split(name, "novels", "off") for name in SPLITS}
    assert given["others"] == {"other seeds": [1, 2], "novels": [3]}
    assert given["spec"].length == 64
    assert given["texts"] is TEXTS["heldout"]


def test_every_setting_is_diagnosed_and_searched_on_calibration_text(setting, monkeypatch):
    loaded, setting = setting
    seen, kept = [], {}
    none = identity(2, 2, ((0, 3), (4, 7)))
    monkeypatch.setattr(diagnose, "run", lambda *a: seen.append(a) or ("diagnosis", a[1].rope.method))
    monkeypatch.setattr(replicate, "find_scales", lambda *a: seen.append(a) or none)
    monkeypatch.setattr(
        replicate, "measure_claims", lambda loaded, cases, spec, *a: kept.update(cases=cases, spec=spec, texts=a[0])
    )
    pairs = [(YARN, INT4), (RopeSpec("linear", 2.0), QuantSpec(weights=WeightQuantSpec(4)))]
    replicate.run(loaded, setting, pairs, ReplicationSpec(windows=3), TEXTS)
    assert seen[0][2] is TEXTS["calibration"]
    assert [a[3] for a in (seen[1], seen[3])] == [("diagnosis", "yarn"), ("diagnosis", "linear")]
    assert [(c.rope.method, c.diagnosis[1]) for c in kept["cases"]] == [("yarn", "yarn"), ("linear", "linear")]
    assert kept["cases"][0].note == NO_SCALES
    assert kept["cases"][1].note.startswith(
        "Symmetric scales are an exact no-op here: weights have a scale per output row"
    )
    assert (kept["spec"].length, kept["spec"].short_length) == (64, 16)
    assert kept["texts"] is TEXTS["heldout"]


def test_both_run_for_real_on_a_tiny_model(setting):
    loaded, setting = setting
    steps = []
    result = replicate.run(loaded, setting, [(YARN, INT4)], ReplicationSpec(windows=3), TEXTS, steps.append)
    assert [claim.name for claim in result.cases[0].claims][:3] == ["amplified", "amplified_long", "pressure"]
    assert any(step.what.startswith("YaRN ×2, K int4 per token: ") for step in steps)
    scales = find_scales(loaded, replace(setting, search=replace(setting.search, guard_tau=10.0)), TEXTS)
    assert not scales.is_identity
    found = controls.run(loaded, setting, scales, ControlSpec(seeds=(1,), windows=3, shuffles=1, dtypes=()), TEXTS)
    assert {control.kind for control in found.controls} >= {"tuned", "unquantized", "bands", "heads", "seed"}
    assert found.precisions == []


def test_tasks_add_the_claim_about_accuracy(setting, monkeypatch):
    loaded, setting = setting
    asked = []
    monkeypatch.setattr(replicate, "require_installed", lambda: None)
    monkeypatch.setattr(replicate, "load_tasks", lambda spec: asked.append(spec))
    monkeypatch.setattr(replicate.harness, "run", lambda *a: asked.append(a) or task_scores())
    tuned = identity(2, 2, ((0, 3), (4, 7)))
    monkeypatch.setattr(replicate, "find_scales", lambda *a: replace(tuned, g=tuned.g * 2))
    spec = HarnessSpec(("mine",))
    result = replicate.run(loaded, setting, [(YARN, INT4)], ReplicationSpec(windows=3), TEXTS, tasks=spec)
    claim = result.cases[0].claims[-1]
    assert (claim.name, claim.verdict, result.tasks["tasks"]) == ("accuracy", "undecided", ("mine",))
    assert asked[0] is spec
    assert (asked[1][1].rope, asked[1][2].is_identity, asked[1][3], asked[1][4]) == (
        YARN,
        False,
        spec,
        TEXTS["calibration"],
    )
    monkeypatch.setattr(replicate, "find_scales", lambda *a: tuned)
    result = replicate.run(loaded, setting, [(YARN, INT4)], ReplicationSpec(windows=3), TEXTS, tasks=spec)
    assert result.cases[0].claims[-1].verdict == "not testable here"
    assert len(asked) == 3  # no task is run for scales that are none
