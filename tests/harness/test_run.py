"""The harness's tasks under every condition: its perplexity beside `evaluate`'s, paired changes, refusals.

Oracles: our `evaluate` on the same windows; sums over the harness's own documents, written out.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

pytest.importorskip("lm_eval")
pytestmark = pytest.mark.slow

import qroar_core as qroar  # noqa: E402
from qroar_core.errors import BadSpec, BadText, Cancelled  # noqa: E402
from qroar_core.evaluation import run as evaluate  # noqa: E402
from qroar_core.harness import run as stage  # noqa: E402
from qroar_core.models.text import Document, split  # noqa: E402
from qroar_core.specs import EvaluationSpec, HarnessSpec  # noqa: E402
from qroar_core.transforms.scales import identity  # noqa: E402
from tests.harness.local_tasks import write_task  # noqa: E402

LENGTH = 512  # twice the demo's native window
SETUP = qroar.Setup(
    rope=qroar.Rope("yarn", factor=4), quantization=qroar.quantization(k="int4"), length=LENGTH, bos="on"
)


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def choices(tmp_path_factory):
    """Three questions whose right answer is the likelier one, by far, and one where it is not."""
    documents = [
        {"context": "The state of the", "choices": ["Union", "xqzv"], "label": 0},
        {"context": "The Congress of the United", "choices": ["zebra qv", "States"], "label": 1},
        {"context": "The House of", "choices": ["Representatives", "jjjj"], "label": 0},
        {"context": "The President of the United", "choices": ["States", "qqqq"], "label": 1},
    ]
    return write_task(tmp_path_factory.mktemp("tasks"), "mine_choices", "multiple_choice", documents)


def whole_windows(tokenizer, count):
    """Texts of exactly LENGTH - 1 tokens: with BOS before them one window of `evaluate` each."""
    found = []
    for document in split("heldout"):
        for paragraph in document.text.split("\n\n")[:-1]:
            at = document.text.index(paragraph)
            ids = tokenizer.encode(document.text[at : at + 4 * LENGTH], add_special_tokens=False)[: LENGTH - 1]
            text = tokenizer.decode(ids)
            if len(ids) == LENGTH - 1 and tokenizer.encode(text, add_special_tokens=False) == ids:
                found.append(Document(f"text {len(found)}", text, bos="on"))
                break
        if len(found) == count:
            return found
    raise AssertionError("too little text")


def test_the_harness_and_evaluate_measure_the_same_perplexity(demo, tmp_path):
    texts = whole_windows(demo.tokenizer, 2)
    task = write_task(tmp_path, "mine_rolling", "loglikelihood_rolling", [{"text": one.text} for one in texts])
    setting = SETUP.resolve(demo)
    spec = EvaluationSpec(lengths=(LENGTH,), windows=2, rotation=False)
    evaluated = evaluate.run(demo, replace(setting, evaluation=spec), None, None, texts)
    found = stage.run(demo, setting, None, HarnessSpec((str(task),), length=LENGTH), [])
    size = sum(len(one.text.encode()) for one in texts)
    by_evaluate = {(row.model, row.scales): row.ppl for row in evaluated.rows}
    by_harness = {
        (one.model, one.scales): math.exp(math.log(one.value) * size / (2 * (LENGTH - 1))) for one in found.scores
    }
    assert by_harness.keys() == by_evaluate.keys() == {("reference", "identity"), ("quantized", "identity")}
    for who, ppl in by_evaluate.items():
        assert by_harness[who] == pytest.approx(ppl, rel=1e-6)
    assert by_harness["quantized", "identity"] > by_harness["reference", "identity"] + 0.1
    assert not any("windows" in sentence for sentence in found.sentences)


def test_conditions_are_scored_on_the_same_documents(demo, choices):
    setting = SETUP.resolve(demo)
    geo = demo.geometry
    doubled = identity(geo.n_layers, geo.n_kv_heads, ((0, geo.n_pairs - 1),), "symmetric", "layer")
    found = stage.run(
        demo, setting, replace(doubled, g=doubled.g * 2), HarnessSpec((str(choices),)), split("calibration")
    )
    assert {(one.model, one.scales): (one.metric, one.value, one.documents) for one in found.scores} == {
        ("reference", "identity"): ("acc", 0.75, 4),
        ("quantized", "identity"): ("acc", 0.75, 4),
        ("quantized", "tuned"): ("acc", 0.75, 4),
    }
    assert [one.what for one in found.changes] == ["quantized - reference", "tuned - quantized"]
    assert all((one.gained, one.lost, one.p_value) == (0, 0, 1.0) for one in found.changes)
    assert found.scores[0].stderr == pytest.approx(math.sqrt(0.75 * 0.25 / 3))
    assert found.length == LENGTH
    assert (found.versions, found.fewshot) == ({"mine_choices": "1.0"}, {"mine_choices": 0})
    assert "YaRN ×4, K int4 per token" in found.setup


def test_static_ranges_come_from_the_text_that_is_given(demo, choices):
    tensor = qroar.quantization(k="int8", kv_scale="tensor")
    setting = replace(SETUP, quantization=tensor, length=256).resolve(demo)
    found = stage.run(demo, setting, None, HarnessSpec((str(choices),), limit=2), split("calibration"))
    assert "static ranges from calibration text" in found.text
    assert "the first 2 documents of each task" in found.text
    assert {one.value for one in found.scores} == {1.0}


def test_the_library_gives_it_with_a_table_a_figure_and_a_file(demo, choices, tmp_path):
    steps = []
    found = qroar.lm_eval(demo, SETUP, [str(choices)], limit=3, num_fewshot=1, on_step=steps.append)
    assert found.length == LENGTH
    assert found.fewshot == {"mine_choices": 1}
    assert list(found.table()["model"]) == ["reference", "quantized"]
    assert found.figures() == ["scores"]
    assert len(found.plot().data) == 2
    assert "mine_choices, acc: no answer of 3 documents changes from right to wrong or back" in found.summary()
    assert qroar.TaskScores.load(found.save(tmp_path / "lm_eval.json")) == found
    assert {step.stage for step in steps} == {"lm-eval"}
    assert any(step.what.startswith("quantized, ") for step in steps)


def test_it_stops_where_it_is_asked_to(demo, choices):
    def stop(step):
        raise Cancelled("lm-eval")

    with pytest.raises(Cancelled):
        qroar.lm_eval(demo, SETUP, [str(choices)], on_step=stop)


def test_what_is_cut_is_said(demo, tmp_path):
    text = split("heldout")[0].text[:3000]
    tokens = len(demo.tokenizer.encode(text)) + 1  # BOS
    task = write_task(tmp_path, "mine_answers", "generate_until", [{"context": text, "answer": "x"}])
    with pytest.raises(BadSpec, match=rf"^Setup\(length=\.\.\.\): a request of mine_answers takes {tokens + 8} tokens"):
        qroar.lm_eval(demo, SETUP, [str(task)])
    found = qroar.lm_eval(demo, SETUP, [str(task)], truncate=True)
    (cut,) = found.cut
    assert (cut.task, cut.requests, cut.most_tokens) == ("mine_answers", 1, tokens + 8 - LENGTH)
    said = f"mine_answers: 1 request cut from the left to fit 512 tokens, by {tokens + 8 - LENGTH} tokens at most"
    assert said in found.sentences


def test_a_long_text_is_read_in_windows_and_that_is_said(demo, tmp_path):
    task = write_task(tmp_path, "mine_long", "loglikelihood_rolling", [{"text": split("heldout")[0].text[:3000]}])
    found = qroar.lm_eval(demo, replace(SETUP, length=256), [str(task)])
    assert "mine_long: 1 text of more than 256 tokens read in windows, each token predicted once" in found.sentences


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ({"tasks": []}, BadSpec, "tasks must be at least one"),
        ({"tasks": "hellaswag"}, BadSpec, "must be a list"),
        ({"tasks": ["/nowhere/mine.yaml"]}, BadSpec, "tasks.*no such file; check the path"),
        ({"spec": HarnessSpec(("a",), include_path="/nowhere")}, BadSpec, "include_path.*no such folder"),
    ],
)
def test_what_cannot_be_run_is_one_line(demo, asked, error, words):
    with pytest.raises(error, match=words) as refused:
        qroar.lm_eval(demo, SETUP, **asked)
    assert "\n" not in str(refused.value)


def test_tasks_of_the_harness_itself_are_known_by_name(demo):
    with pytest.raises(BadText, match=r"arc_easy cannot be loaded: Couldn't reach .*it is on a hub that cannot be"):
        qroar.lm_eval(demo, SETUP, ["arc_easy"])
    with pytest.raises(BadSpec, match=r"no task 'hellaswagg'; did you mean hellaswag"):
        qroar.lm_eval(demo, SETUP, ["hellaswagg"])


def test_a_group_of_a_folder_has_its_own_score(demo, tmp_path):
    right = {"context": "The Congress of the United", "choices": ["zebra qv", "States"], "label": 1}
    for name, documents in (("part_a", [right]), ("part_b", [right, right, right | {"label": 0}])):
        write_task(tmp_path, name, "multiple_choice", documents)
    (tmp_path / "all.yaml").write_text(
        "group: parts\ntask: [part_a, part_b]\naggregate_metric_list:\n  - metric: acc\n    weight_by_size: true\n"
    )
    spec = HarnessSpec(("parts",), include_path=str(tmp_path))
    found = qroar.lm_eval(demo, replace(SETUP, quantization=qroar.quantization()), spec=spec)
    assert {one.task: (one.value, one.documents) for one in found.scores} == {
        "parts": (0.75, 4),
        "part_a": (1.0, 1),
        "part_b": (pytest.approx(2 / 3, abs=1e-6), 3),
    }
    assert found.changes == []


def test_a_task_that_runs_code_is_refused(demo, tmp_path):
    task = write_task(
        tmp_path, "mine_code", "generate_until", [{"context": "a", "answer": "b"}], more="\nunsafe_code: true"
    )
    with pytest.raises(BadSpec, match="mine_code runs code that the model wrote; leave it out"):
        qroar.lm_eval(demo, SETUP, [str(task)])
