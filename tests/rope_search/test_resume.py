"""A search of interpolations that was stopped goes on: to the same last digit, without measuring anything again."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch

import qroar_core as qroar
from qroar_core.errors import BadOutput, BadSpec, Cancelled
from qroar_core.rope_search import run as stage
from qroar_core.rope_search.result import HeldOutNLL, RopeTrials
from qroar_core.specs import QuantizerSpec, QuantSpec, RopeSpec
from tests.helpers.planted_rope_search import rope_search
from tests.rope_search.test_run import LENGTH, SPEC, setting
from tests.scale_search.searching import TEXTS, document

LONGER = replace(SPEC, trials=16)  # past the first draws, so that proposals follow from what was measured before


@pytest.fixture(scope="module")
def model(byte_tokenizer, tokenizer_folder):
    from tests.models.families_table import CASES, loaded_of

    return loaded_of(CASES["llama, 1 KV head"], byte_tokenizer, tokenizer_folder, dtype=torch.float32)


@pytest.fixture
def passes(monkeypatch):
    """Every pass that was begun: its interpolation, condition and windows. `last` is not let through."""
    begun = []
    monkeypatch.setattr(passes, "last", None, raising=False)
    real = stage.WindowScorer.nll

    def counted(scorer, ids, scales, what):
        if passes.last is not None and len(begun) == passes.last:
            raise Cancelled("rope")
        begun.append((scorer.rope, scorer.quant.is_none, tuple(ids.shape), ids.sum().item()))
        return real(scorer, ids, scales, what)

    monkeypatch.setattr(stage.WindowScorer, "nll", counted)
    return begun


def exact(result):
    """Everything but how long it took, as Python holds it: no digit is rounded."""
    return result.model_dump(exclude={"seconds"})


def stopped_after(count, model, begun, tmp_path, resume=None, spec=LONGER):
    """What a search that is stopped at a pass leaves, through its file."""
    passes.last = len(begun) + count
    with pytest.raises(Cancelled) as stop:
        stage.run(model, setting(), spec, TEXTS, resume=resume)
    passes.last = None
    (tmp_path / "rope_trials.json").write_text(stop.value.partial.to_json())
    return RopeTrials.from_file(tmp_path / "rope_trials.json")


def test_stopped_anywhere_it_ends_as_if_never_stopped_and_measures_nothing_twice(model, passes, tmp_path):
    whole = stage.run(model, setting(), LONGER, TEXTS)
    order = list(passes)
    assert len(order) == len(set(order))
    held = [i for i, one in enumerate(order) if one[2][0] == 3]  # held-out text has three windows, development two
    second = next(i for i, one in enumerate(order) if not one[1])
    for at in (1, 13, second, second + 14, held[0] - 1, held[0], held[1], held[-1]):
        passes.clear()
        trials = stopped_after(at, model, passes, tmp_path)
        assert exact(stage.run(model, setting(), LONGER, TEXTS, resume=trials)) == exact(whole), at
        assert passes == order, at


@pytest.mark.parametrize("how", [RuntimeError, KeyboardInterrupt])
def test_what_is_kept_after_every_pass_outlives_any_end(how, model, passes, tmp_path):
    """What lies on disk when a process is killed: nothing is told to the search at its end."""
    file = tmp_path / "rope_trials.json"
    whole = stage.run(model, setting(), LONGER, TEXTS)
    order = list(passes)
    held = 1 + next(i for i, one in enumerate(order) if one[2][0] == 3)
    for at in (2, 15, held, held + 3):
        passes.clear()

        def on_step(step, at=at):
            if len(passes) == at:  # within this pass
                raise how

        with pytest.raises(how):
            stage.run(
                model, setting(), LONGER, TEXTS, on_step, on_trials=lambda found: file.write_text(found.to_json())
            )
        kept = RopeTrials.from_file(file)
        assert sum(len(study.trials) for study in kept.studies) + len(kept.heldout) == at - 1
        passes.pop()
        assert exact(stage.run(model, setting(), LONGER, TEXTS, resume=kept)) == exact(whole), at
        assert passes == order, at


def test_it_may_be_stopped_again_and_go_on_to_more_trials(model, passes, tmp_path):
    more = replace(LONGER, trials=19)
    whole = stage.run(model, setting(), more, TEXTS)
    known = set(passes)
    passes.clear()
    first = stopped_after(24, model, passes, tmp_path)  # within the second study
    again = stopped_after(2, model, passes, tmp_path, first, more)  # back in the first one
    measured = {(study.quantized, trial.spec) for study in again.studies for trial in study.trials}
    assert {(not full, rope) for rope, full, *_ in passes} <= measured
    assert exact(stage.run(model, setting(), more, TEXTS, resume=again)) == exact(whole)
    assert len(passes) == len(set(passes))
    assert set(passes) >= known
    assert again.seconds >= first.seconds > 0


def test_steps_go_forward_and_end_in_time(model, passes, tmp_path):
    trials, steps = stopped_after(20, model, passes, tmp_path), []
    stage.run(model, setting(), LONGER, TEXTS, steps.append, resume=trials)
    fractions = [step.fraction for step in steps]
    assert fractions == sorted(fractions)
    assert 0.3 < fractions[0] < fractions[-2] <= 1


OTHER = {
    "interpolation": {"asked": setting(RopeSpec("yarn", 3.0))},
    "quantizer": {"asked": setting(quant=QuantSpec(k=QuantizerSpec(3)))},
    "length of development windows": {"spec": replace(SPEC, length=LENGTH - 8)},
    "length of short held-out windows": {"spec": replace(SPEC, short_length=16)},
    "number of development windows": {"spec": replace(SPEC, windows=3)},
    "number of held-out windows": {"spec": replace(SPEC, heldout_windows=4)},
    "seed": {"spec": replace(SPEC, seed=1)},
    "text of development windows": {"texts": TEXTS | {"development": document(5, 2)}},
    "text of held-out windows": {"texts": TEXTS | {"heldout": document(5, 2)}},
}


@pytest.fixture(scope="module")
def trials(model):
    def stop(step):
        if "3 of at most" in step.what:
            raise Cancelled("rope")

    with pytest.raises(Cancelled) as stopped:
        stage.run(model, setting(), SPEC, TEXTS, stop)
    return stopped.value.partial


@pytest.mark.parametrize("what", OTHER)
def test_another_search_does_not_go_on_with_them(model, trials, what):
    given = {"asked": setting(), "spec": SPEC, "texts": TEXTS} | OTHER[what]
    asked, spec, texts = given["asked"], given["spec"], given["texts"]
    with pytest.raises(BadOutput, match=f"^resume: the trials were measured with another {what}; give the same"):
        stage.run(model, asked, spec, texts, lambda step: pytest.fail("a step was made"), resume=trials)


def test_another_model_another_space_or_no_note_is_refused(model, trials, monkeypatch):
    def refused(loaded, with_trials, words):
        with pytest.raises(BadOutput, match=words):
            stage.run(loaded, setting(), SPEC, TEXTS, lambda step: pytest.fail("a step was made"), resume=with_trials)

    refused(replace(model, checksum="another"), trials, "another model; give the same")
    refused(replace(model, checksum="another", dtype=torch.bfloat16), trials, "another dtype; give the same")
    refused(model, trials.model_copy(update={"measured_under": {}}), "of an older version")
    short = trials.model_copy(
        update={"heldout": [HeldOutNLL(rope={"method": "linear"}, quantized=True, short=False, nll=[1.0])]}
    )
    refused(model, short, "lack held-out windows")
    monkeypatch.setattr("qroar_core.rope_search.space.STILL_SHARE", 2)
    refused(model, trials, "another space of interpolations")


def test_the_library_takes_what_a_cancelled_search_left_and_its_file(model, tmp_path, monkeypatch):
    setup = qroar.Setup(rope=RopeSpec("yarn", 4.0), quantization=QuantSpec(k=QuantizerSpec(4)), length=LENGTH)
    monkeypatch.setattr(qroar.Setup, "texts", lambda self: TEXTS)
    spec = replace(SPEC, trials=7, exchanged=1)

    def stop(step):
        if "under the quantizer, 4 of at most" in step.what:
            raise Cancelled("rope")

    with pytest.raises(Cancelled) as stopped:
        qroar.tune_rope(model, setup, spec=spec, on_step=stop)
    (tmp_path / "rope_trials.json").write_text(stopped.value.partial.to_json())
    whole = exact(qroar.tune_rope(model, setup, spec=spec))
    for resume in (stopped.value.partial, tmp_path / "rope_trials.json", str(tmp_path / "rope_trials.json")):
        assert exact(qroar.tune_rope(model, setup, spec=spec, resume=resume)) == whole
    with pytest.raises(BadSpec, match="resume must be trials of a search, got 3"):
        qroar.tune_rope(model, setup, spec=spec, resume=3)
    with pytest.raises(BadOutput, match=r"gone\.json: cannot be read"):
        qroar.tune_rope(model, setup, spec=spec, resume=tmp_path / "gone.json")

    search = tmp_path / "tune_rope.json"
    search.write_text(rope_search().to_json())
    with pytest.raises(BadOutput, match="is a search of interpolations, not what a stopped search of interpolations"):
        qroar.tune_rope(model, setup, spec=spec, resume=search)


TRIED = {"rope": {"method": "longrope", "factor": 4.0, "long_factor": [1.0, 2.0]}, "how": "proposed", "nll": 2.0}
HELD = {"rope": TRIED["rope"], "quantized": True, "short": False, "nll": [2.0, 3.0]}


def rope(**fields):
    return {"rope": TRIED["rope"] | fields}


@pytest.mark.parametrize(
    ("tried", "held", "words"),
    [
        ({"nll": math.nan}, {}, "studies.0.trials.0.nll: nan is no NLL"),
        ({"nll": "NaN"}, {}, "studies.0.trials.0.nll: Input should be a valid number"),
        ({"nll": -math.inf}, {}, "studies.0.trials.0.nll: -inf is no NLL"),
        ({"nll": "-Infinity"}, {}, "studies.0.trials.0.nll: Input should be a valid number"),
        ({"nll": True}, {}, "studies.0.trials.0.nll: Input should be a valid number"),
        ({"nll": "2.0"}, {}, "studies.0.trials.0.nll: Input should be a valid number"),
        (rope(long_factor="abc"), {}, "studies.0.trials.0.rope: long_factor must be a list of numbers, got 'abc'"),
        (rope(long_factor=[1.0, math.nan]), {}, "studies.0.trials.0.rope: long_factor: nan is no factor of a pair"),
        (rope(long_factor=[1.0, True]), {}, "studies.0.trials.0.rope: each of long_factor must be a number, got True"),
        (rope(factor=True), {}, "studies.0.trials.0.rope: factor must be a number, got True"),
        (rope(factor="4"), {}, "studies.0.trials.0.rope: "),
        (rope(factor=math.nan), {}, "studies.0.trials.0.rope: factor must be at least 1"),
        ({}, {"nll": [2.0, True]}, "heldout.0.nll.1: Input should be a valid number"),
        ({}, {"nll": [2.0, math.nan]}, "heldout.0.nll: a number that is not finite"),
        ({}, {"nll": [2.0, "3"]}, "heldout.0.nll.1: Input should be a valid number"),
        ({}, rope(long_factor="abc"), "heldout.0.rope: long_factor must be a list of numbers"),
    ],
)
def test_a_file_with_what_is_no_number_is_one_line(tmp_path, tried, held, words):
    path = tmp_path / "rope_trials.json"
    content = {"studies": [{"quantized": True, "trials": [TRIED | tried]}], "heldout": [HELD | held]}
    path.write_text(json.dumps(content))
    with pytest.raises(BadOutput) as refused:
        RopeTrials.from_file(path, BadOutput)
    assert str(refused.value).startswith(f"{path}: {words}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("nll", [math.inf, "Infinity", 2, 9.5])
def test_an_infinite_or_whole_nll_is_read(tmp_path, nll):
    path = tmp_path / "rope_trials.json"
    path.write_text(json.dumps({"studies": [{"quantized": True, "trials": [TRIED | {"nll": nll}]}]}))
    (study,) = RopeTrials.from_file(path).studies
    assert study.best.nll == float(nll)
    assert study.best.spec.long_factor == (1.0, 2.0)
    path.write_text(RopeTrials(studies=[study]).to_json())
    assert RopeTrials.from_file(path).studies == [study]
