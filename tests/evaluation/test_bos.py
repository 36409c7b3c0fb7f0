"""Where the tokenizer puts BOS before a text, every context that any stage reads starts with it, and results say so.

A hook on the decoder sees every pass from position 0, whatever made it.
"""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from qroar_core.diagnostics import run as diagnose
from qroar_core.evaluation import continuations
from qroar_core.evaluation import run as evaluate
from qroar_core.evidence.controls.measure import measure_controls
from qroar_core.evidence.prediction import run as predict
from qroar_core.evidence.replication import measure as replicate
from qroar_core.evidence.replication.measure import ReplicationSetting, measure_claims
from qroar_core.exporters import forward_pass
from qroar_core.models.load import run as load_model
from qroar_core.models.sources import DEMO
from qroar_core.models.text import SPLITS, encode, split, windows
from qroar_core.remedies import run as compare
from qroar_core.retrieval import run as retrieve
from qroar_core.scale_search import run as search
from qroar_core.scale_search.manual_scales import Probe
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.setting import Setting
from qroar_core.specs import (
    BandSpec,
    ComparisonSpec,
    ContinuationSpec,
    ControlSpec,
    DiagnosisSpec,
    EvaluationSpec,
    PredictionSpec,
    QuantizerSpec,
    QuantSpec,
    ReplicationSpec,
    RetrievalSpec,
    RopeSpec,
    SearchSpec,
    WeightQuantSpec,
)
from qroar_core.transforms.scales import Scales

pytestmark = pytest.mark.slow

BOS, NAME = 0, "<|endoftext|>"
YARN, INT3 = RopeSpec("yarn", 4.0), QuantSpec(k=QuantizerSpec(3))
SAID = f"each window starts with {NAME}"
SEARCH = SearchSpec(
    length=96, windows=2, steps=2, query_rows=8, bands=BandSpec(2), polish_steps=2, polish_windows=2, trials=2
)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """The demo, with a tokenizer that puts BOS before a text (the case `adds_bos`)."""
    folder = tmp_path_factory.mktemp("bos") / "adds_bos"
    shutil.copytree(DEMO, folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": NAME, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {NAME: {"id": NAME, "ids": [BOS], "tokens": [NAME]}},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return load_model(str(folder), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def texts():
    return {name: split(name) for name in SPLITS}


@contextmanager
def contexts(loaded):
    """First tokens of every row of every pass that begins at position 0."""
    first: list[int] = []

    def look(module, args, kwargs):
        at, ids = kwargs.get("position_ids"), kwargs["input_ids"]
        if at is None or int(at.flatten()[0]) == 0:
            first.extend(ids[:, 0].tolist())

    hook = loaded.family.decoder(loaded.model).register_forward_pre_hook(look, with_kwargs=True)
    try:
        yield first
    finally:
        hook.remove()


def only_bos(first, least=1):
    assert len(first) >= least
    assert set(first) == {BOS}


@pytest.mark.parametrize("paired", [True, False])
def test_diagnosis(loaded, texts, paired):
    spec = DiagnosisSpec(length=160, short_length=40, paired_tokens=40, windows=3, bands=BandSpec(2), paired=paired)
    with contexts(loaded) as first:
        result = diagnose.run(loaded, Setting(YARN, INT3, diagnosis=spec), texts["calibration"])
    only_bos(first, 1 + 3 + 3 + 1)  # long, short under YaRN and natively, long quantized
    assert result.text.endswith(SAID)
    assert result.paired_tokens == 39  # BOS takes one place of a short window


def test_paired_windows_end_where_they_did(loaded, texts):
    spec = DiagnosisSpec(length=160, short_length=40, paired_tokens=16, windows=4, bands=BandSpec(2))
    plan = diagnose.plan(loaded, Setting(YARN, INT3, diagnosis=spec), texts["calibration"])
    assert plan.spec.paired_tokens == 16
    for end, short in zip(plan.ends, plan.short_ids.tolist(), strict=True):
        assert short == [BOS, *plan.ids.tolist()[end - 39 : end]]


@pytest.mark.parametrize("objective", ["cached", "full", "kl"])
def test_search_its_guard_and_its_proof(loaded, texts, objective):
    spec = replace(SEARCH, objective=objective, method="coordinate" if objective == "full" else "gradient")
    with contexts(loaded) as first:
        report = search.run(loaded, Setting(YARN, INT3, search=spec), texts).report
    only_bos(first, 8)
    assert report.text.endswith(SAID)


def test_the_probe(loaded, texts):
    with contexts(loaded) as first:
        Probe.read(SearchProblem(loaded, YARN, INT3, SEARCH, texts), lambda step: None)
    only_bos(first, 2)


@pytest.mark.parametrize("stride", [None, 8])
def test_evaluation(loaded, texts, stride):
    with contexts(loaded) as first:
        result = evaluate.run(
            loaded,
            Setting(YARN, INT3, evaluation=EvaluationSpec((48, 96), windows=3, stride=stride)),
            None,
            None,
            texts["heldout"],
        )
    only_bos(first, 2 * 3 * 3)
    assert result.text.endswith(SAID)


@pytest.mark.parametrize("remedy", ["smooth_attention", "awq", "gptq", "smoothquant"])
def test_remedies(loaded, texts, remedy):
    quant = QuantSpec(weights=WeightQuantSpec(4), k=QuantizerSpec(3), activations=QuantizerSpec(8))
    read = {"calibration_windows": 1, "calibration_tokens": 1}
    spec = ComparisonSpec((remedy,), search=SEARCH, windows=2, band_scales=remedy == "gptq", **read)
    with contexts(loaded) as first:
        result = compare.run(loaded, Setting(YARN, quant), spec, texts)
    only_bos(first, 6)
    assert result.text.endswith(SAID)


def test_controls_claims_and_prediction(loaded, texts):
    problem = SearchProblem(loaded, YARN, INT3, SEARCH, texts)
    scales = problem.scales(torch.full_like(problem.none.point, 0.25).float())
    assert isinstance(scales, Scales)
    with contexts(loaded) as first:
        made = measure_controls(
            loaded,
            Setting(YARN, INT3),
            scales,
            ControlSpec(length=96, windows=2, shuffles=1, dtypes=()),
            texts["heldout"],
        )
        asked = DiagnosisSpec(length=96, short_length=48, paired_tokens=16, windows=2, bands=BandSpec(2))
        diagnosis = diagnose.run(loaded, Setting(YARN, INT3, diagnosis=asked), texts["calibration"])
        claims = measure_claims(
            loaded,
            [ReplicationSetting(YARN, INT3, scales, diagnosis)],
            ReplicationSpec(length=300, short_length=40, windows=2),
            texts["heldout"],
        )
        alone = PredictionSpec(96, windows=2, grid_windows=1)
        told = predict.run(loaded, Setting(YARN, INT3), alone, texts["heldout"], diagnosis)
    only_bos(first, 30)
    for result in (made, claims, told):
        assert result.text.endswith(SAID)


def test_short_contexts_of_a_replication_are_the_text_cut_in_pieces(loaded, texts):
    ids = windows(loaded.tokenizer, texts["heldout"], 300, 2).ids
    scorer = replicate._Scorer(loaded, ids, 1, 40, 512, lambda step: None, 1)
    got = scorer.pieces(RopeSpec(), QuantSpec())
    assert got.shape == (2, 7, 39)  # 7 x 39 of 299 tokens of text
    piece = torch.tensor([[BOS, *ids[1, 300 - 2 * 39 : 300 - 39].tolist()]])
    assert torch.allclose(got[1, 5], own_nll(loaded, piece)[0].double(), atol=2e-5)


def test_prompts(loaded, texts):
    retrieval = RetrievalSpec(("passkey",), (200,), (0.5,), trials=1, choices=3)
    with contexts(loaded) as first:
        got = retrieve.run(loaded, Setting(YARN, INT3), None, retrieval, texts["heldout"])
        held = continuations.run(loaded, Setting(YARN, INT3), None, None, ContinuationSpec(64, 4), texts["heldout"])
        own = continuations.run(
            loaded, Setting(YARN, INT3), None, None, ContinuationSpec(64, 4, prompt="The state of"), texts["heldout"]
        )
    only_bos(first, 2 + 4)
    assert got.text.endswith(f"each prompt starts with {NAME}")
    assert {trial.prompt_tokens for trial in got.trials} <= set(range(170, 200))
    at = int(held.origin.split("tokens ")[1].split()[0])
    assert held.origin.endswith(f"tokens {at} to {at + 58}, each prompt starts with {NAME}")
    assert held.prompt_tokens == 60
    assert own.prompt_tokens == 1 + len(loaded.tokenizer("The state of", add_special_tokens=False)["input_ids"])
    assert own.prompt_end == f"{NAME}The state of"


def test_a_chat_template_that_writes_bos_does_not_double_it(loaded, texts):
    from qroar_core.retrieval.prompts import prompt

    spec = RetrievalSpec(lengths=(256,), choices=3)
    loaded.tokenizer.chat_template = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"
    try:
        written = prompt(loaded.tokenizer, texts["heldout"], spec, "passkey", 256, 0.5, 0)
    finally:
        loaded.tokenizer.chat_template = None
    assert written.ids[:2].tolist().count(BOS) == 1
    assert written.ids[0] == BOS


def test_bos_that_the_chat_template_alone_writes_is_said(loaded, texts):
    """`--bos off` takes away what the tokenizer puts before a text, not what a template writes."""
    off = [replace(document, bos="off") for document in texts["heldout"]]
    spec = RetrievalSpec(("passkey",), (200,), (0.5,), trials=1, choices=3)
    loaded.tokenizer.chat_template = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"
    try:
        with contexts(loaded) as first:
            written = retrieve.run(loaded, Setting(YARN, INT3), None, spec, off).text
        only_bos(first)
        bare = retrieve.run(loaded, Setting(YARN, INT3), None, replace(spec, chat=False), off).text
    finally:
        loaded.tokenizer.chat_template = None
    assert written.endswith(f"seed 0, each prompt starts with {NAME}, which the chat template writes")
    assert bare.endswith(f"seed 0, no prompt starts with {NAME}, which the tokenizer puts before a text")


def test_exports_are_tried_on_a_window_that_starts_with_bos(loaded):
    ids = forward_pass.sample_ids(loaded)[0].tolist()
    assert ids == [BOS, *encode(loaded.tokenizer, split("heldout")[0])[: forward_pass.TOKENS - 1].tolist()]


def own_nll(loaded, ids):
    """transformers' own forward over whole rows: NLL of every token but the first."""
    with torch.no_grad():
        logits = loaded.model(input_ids=ids, use_cache=False).logits.double()
    return -logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]


def test_evaluation_is_that_of_transformers_on_bos_and_the_text(loaded, texts):
    """Same targets at both lengths; the text's tokens are those of the tokenizer without special tokens."""
    result = evaluate.run(
        loaded,
        Setting(RopeSpec(), QuantSpec(), evaluation=EvaluationSpec((32, 64), windows=3, seed=4)),
        None,
        None,
        texts["heldout"],
    )
    coded = {d.name: loaded.tokenizer(d.text, add_special_tokens=False)["input_ids"] for d in texts["heldout"]}
    got = windows(loaded.tokenizer, texts["heldout"], 64, 3, 4)
    text = [coded[name][at : at + 63] for name, at in got.origin]
    assert got.ids.tolist() == [[BOS, *row] for row in text]
    for length in (32, 64):
        ids = torch.tensor([[BOS, *row[-(length - 1) :]] for row in text])
        wanted = own_nll(loaded, ids)[:, -16:].mean(1)
        assert result.window_nll[f"{length}/reference/identity"] == pytest.approx(wanted.tolist(), abs=2e-5)


def test_sliding_windows_score_the_same_targets_behind_bos(loaded, texts):
    result = evaluate.run(
        loaded,
        Setting(RopeSpec(), QuantSpec(), evaluation=EvaluationSpec((32,), windows=2, targets=24, stride=8)),
        None,
        None,
        texts["heldout"],
    )
    text = windows(loaded.tokenizer, texts["heldout"], 48, 2).ids[:, 1:]  # 31 + 24 - 8 tokens of text
    each = [[BOS, *text[i, 8 * j : 8 * j + 31].tolist()] for i in range(2) for j in range(3)]
    wanted = own_nll(loaded, torch.tensor(each))[:, -8:].reshape(2, 24).mean(1)
    assert result.window_nll["32/reference/identity"] == pytest.approx(wanted.tolist(), abs=2e-5)


def test_bos_is_never_a_target(loaded, texts):
    """All 63 tokens of text are targets of a window of 64, and no more."""
    result = evaluate.run(
        loaded,
        Setting(RopeSpec(), QuantSpec(), evaluation=EvaluationSpec((64,), windows=2)),
        None,
        None,
        texts["heldout"],
    )
    assert result.rows[0].tokens == 2 * 63
