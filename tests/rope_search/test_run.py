"""Both studies and the 2 x 2 table: transformers' own loss, numpy's intervals, one seed, and what is refused."""

from __future__ import annotations

import copy
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

import qroar_core as qroar
from qroar_core.errors import BadSpec, Cancelled
from qroar_core.models.text import windows
from qroar_core.rope_search import run as stage
from qroar_core.rope_search.result import CHOICES, RopeSearch, RopeTrials
from qroar_core.setting import Setting
from qroar_core.specs import DiagnosisSpec, EvaluationSpec, QuantSpec, RopeSearchSpec, RopeSpec
from tests.scale_search.searching import INT4, TEXTS, asked

LENGTH, SHORT = 96, 24  # of a native window of 64
SPEC = RopeSearchSpec(trials=9, windows=2, heldout_windows=3, short_length=SHORT, exchanged=2)
KNOWN = 6


def setting(rope=RopeSpec("yarn", 4.0), quant=INT4):  # noqa: B008
    diagnosis = DiagnosisSpec(length=LENGTH, short_length=SHORT, paired_tokens=SHORT)
    return Setting(rope, quant, diagnosis, asked(length=LENGTH), EvaluationSpec(windows=3))


@pytest.fixture(scope="module")
def model(byte_tokenizer, tokenizer_folder):
    from tests.models.families_table import CASES, loaded_of

    return loaded_of(CASES["llama, 1 KV head"], byte_tokenizer, tokenizer_folder, dtype=torch.float32)


@pytest.fixture(scope="module")
def found(model):
    return stage.run(model, setting(), SPEC, TEXTS)


def own_loss(model, spec, ids):
    """transformers' mean loss over windows with this interpolation in its config, and pairs held still by hand."""
    own = copy.deepcopy(model.model)
    block = {"rope_theta": own.config.rope_parameters["rope_theta"], "factor": spec.factor}
    native = model.geometry.original_context
    block["original_max_position_embeddings"] = native
    if spec.method == "yarn":
        block |= {"beta_fast": spec.beta_fast, "beta_slow": spec.beta_slow}
    elif spec.method == "llama3":
        block |= {"low_freq_factor": spec.low_freq_factor, "high_freq_factor": spec.high_freq_factor}
    elif spec.method == "longrope":
        block |= {"long_factor": list(spec.long_factor), "short_factor": list(spec.short_factor)}
    if spec.attention_factor is not None:
        block["attention_factor"] = spec.attention_factor
    if spec.method == "ntk":
        channels = model.geometry.rotary_dim
        block = {"rope_theta": block["rope_theta"] * spec.factor ** (channels / (channels - 2))}
    own.config.rope_parameters = {"rope_type": "default" if spec.method == "ntk" else spec.method} | block
    own.config.max_position_embeddings = native
    rotary = own.model.rotary_emb = type(own.model.rotary_emb)(own.config)
    with torch.no_grad():
        rotary(torch.zeros(1), torch.arange(ids.shape[1])[None])  # LongRoPE and dynamic NTK choose by the length
        if spec.tie:
            rotary.rope_type, rotary.inv_freq = "default", rotary.inv_freq.clone()  # nothing is chosen again
            rotary.inv_freq[spec.tie[0].first :] = 0.0
        losses = [float(own(input_ids=row[None], labels=row[None]).loss) for row in ids]
    return sum(losses) / len(losses)


def test_a_trials_nll_is_transformers_own_loss_under_that_config(model, found):
    ids = windows(model.tokenizer, TEXTS["development"], LENGTH, 2).ids
    tried = [one for one in found.studies[0].trials if one.spec.method != "dynamic" or not one.spec.tie]
    assert {one.spec.method for one in tried} >= {"linear", "ntk", "dynamic", "yarn", "longrope", "llama3"}
    assert any(one.spec.tie for one in tried)
    for one in tried:
        assert one.nll == pytest.approx(own_loss(model, one.spec, ids), abs=2e-6), one.spec
    assert len({round(one.nll, 5) for one in tried}) > KNOWN


def test_known_interpolations_come_first_and_the_others_best_last(found):
    for study in found.studies:
        how = [one.how for one in study.trials]
        assert how[:KNOWN] == ["published", "published", "published", "setting", "nearest", "published"]
        assert how[KNOWN : SPEC.trials] == ["proposed"] * (SPEC.trials - KNOWN)
        assert set(how[SPEC.trials :]) <= {"exchanged"}
        assert study.best.nll == min(one.nll for one in study.trials)


def test_each_study_tries_the_others_best_too(model, monkeypatch):
    """On a toy of the attention factor alone, best at 1 in full precision and at 1.3 under the quantizer."""

    def toy(scorer, ids, scales, what):
        best = 1.0 if scorer.quant.is_none else 1.3
        return [1 + abs((scorer.rope.attention_factor or 2.0) - best)] * len(ids)

    monkeypatch.setattr(stage.WindowScorer, "nll", toy)
    result = stage.run(model, setting(), replace(SPEC, trials=24, exchanged=2), TEXTS)
    full, under = result.studies
    assert [abs(one.best.spec.attention_factor - best) < 0.1 for one, best in zip(result.studies, (1.0, 1.3))] == [
        True,
        True,
    ]
    for here, there in ((full, under), (under, full)):
        proposed = sorted({(one.nll, one.spec) for one in there.trials[:24]}, key=lambda one: one[0])
        assert {spec for _, spec in proposed[:2]} <= {one.spec for one in here.trials}
        assert [one.how for one in here.trials[24:]].count("exchanged") == len(here.trials) - 24 > 0


def test_the_table_is_numpys_over_the_windows(found):
    assert [(one.choice, one.quantized) for one in found.judged] == [(c, q) for q in (False, True) for c in CHOICES]
    reach = stats.t.ppf(0.975, 2)

    def interval(differences):
        wide = reach * np.std(differences, ddof=1) / math.sqrt(len(differences))
        return pytest.approx((np.mean(differences), np.mean(differences) - wide, np.mean(differences) + wide), abs=1e-9)

    def ends(estimate):
        return estimate.mean, estimate.low, estimate.high

    rows = {(one.choice, one.quantized): np.array(one.window_nll) for one in found.judged}
    for one in found.judged:
        assert len(one.window_nll) == len(one.short_window_nll) == 3
        assert one.nll == pytest.approx(np.mean(one.window_nll))
        if one.choice == "setting":
            assert one.gain is one.short_cost is None
            continue
        assert ends(one.gain) == interval(rows["setting", one.quantized] - rows[one.choice, one.quantized])
        before = found.row("setting", one.quantized).short_window_nll
        assert ends(one.short_cost) == interval(np.array(one.short_window_nll) - np.array(before))
    assert ends(found.worth) == interval(rows["full precision", True] - rows["quantizer", True])
    assert ends(found.reverse) == interval(rows["quantizer", False] - rows["full precision", False])
    assert (found.kept == "quantizer") == found.row("quantizer", True).gain.above_zero


def test_held_out_windows_are_measured_as_transformers_measures_them(model, found):
    ids = windows(model.tokenizer, TEXTS["heldout"], LENGTH, 3).ids
    for choice in CHOICES:
        spec = found.interpolation(choice).spec
        assert found.row(choice, False).nll == pytest.approx(own_loss(model, spec, ids), abs=2e-6)
    assert all(found.row("setting", q).nll != found.row("setting", not q).nll for q in (True, False))


def test_one_seed_finds_one_result_and_its_file_gives_it_back(model, found, tmp_path):
    def told(result):
        return result.model_dump(exclude={"seconds"})

    assert told(stage.run(model, setting(), SPEC, TEXTS)) == told(found)
    other = stage.run(model, setting(), replace(SPEC, seed=1, trials=8), TEXTS)
    assert [one.rope for one in other.studies[0].trials][KNOWN:] != [one.rope for one in found.studies[0].trials][
        KNOWN:
    ]
    (tmp_path / "tune_rope.json").write_text(found.to_json())
    again = RopeSearch.from_file(tmp_path / "tune_rope.json")
    assert again.rope == found.rope
    assert [one.spec for study in again.studies for one in study.trials] == [
        one.spec for study in found.studies for one in study.trials
    ]


def test_a_search_that_is_stopped_brings_what_was_tried(model):
    steps = []

    def stop(step):
        steps.append(step)
        if step.what.startswith("under the quantizer, 2 of at most "):
            raise Cancelled("rope")

    with pytest.raises(Cancelled) as stopped:
        stage.run(model, setting(), SPEC, TEXTS, stop)
    partial = stopped.value.partial
    assert isinstance(partial, RopeTrials)
    assert [(study.quantized, len(study.trials)) for study in partial.studies] == [(False, 9), (True, 1)]
    assert all(0 <= step.fraction < 1 for step in steps)


def test_progress_ends_where_it_says_also_with_few_trials(model):
    steps = []
    stage.run(model, setting(), replace(SPEC, trials=2), TEXTS, steps.append)
    fractions = [step.fraction for step in steps]
    assert fractions == sorted(fractions)
    assert fractions[-2] <= 1
    numbers = [re.search(r"(\d+) of at most (\d+)", step.what) for step in steps]
    assert all(int(found[1]) <= int(found[2]) for found in numbers if found)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [(setting(quant=QuantSpec()), "nothing is quantized"), (setting(RopeSpec()), "no factor to search around")],
    ids=["nothing is quantized", "nothing is stretched"],
)
def test_what_cannot_be_searched_is_refused_at_once(model, wrong, words):
    with pytest.raises(BadSpec, match=words):
        stage.run(model, wrong, SPEC, TEXTS, lambda step: pytest.fail("a step was made"))


def test_a_length_within_the_native_window_is_searched_and_said(model):
    native = model.geometry.original_context
    short = replace(setting(), search=asked(length=native))
    result = stage.run(model, short, replace(SPEC, trials=1, exchanged=0), TEXTS)
    assert f"lie within the native window of {native}" in result.sentences[-1]
    assert len(result.studies[0].trials) == KNOWN  # these are always tried


def test_ties_of_the_setting_are_its_own_alone(model):
    from qroar_core.interpolations.tie import Tie

    tied = setting(RopeSpec("yarn", 4.0, tie=(Tie(3, 4),)))
    result = stage.run(model, tied, replace(SPEC, trials=1, exchanged=0), TEXTS)
    first, *others = result.studies[0].trials
    assert (first.how, first.spec) == ("setting", tied.rope)
    assert all(one.spec.tie == () for one in others)


def test_the_library_gives_a_result_that_draws_and_saves_itself(model, tmp_path, monkeypatch):
    setup = qroar.Setup(rope=RopeSpec("yarn", 4.0), quantization=INT4, length=LENGTH)
    monkeypatch.setattr(qroar.Setup, "texts", lambda self: TEXTS)
    result = qroar.tune_rope(model, setup, spec=replace(SPEC, trials=7, exchanged=1))
    assert qroar.RopeSearch.load(result.save(tmp_path / "tune_rope.json")) == result
    assert result.figures() == ["gains", "frequencies", "tried"]
    assert replace(setup, rope=result.rope).rope == result.rope
    gains = result.pictures("gains")[0].table
    assert gains["gain"].tolist() == pytest.approx([one.gain.mean for one in result.judged if one.gain], rel=1e-5)
    speeds = result.pictures("frequencies")[0]
    assert speeds.table["inv_freq_setting"].tolist() == result.interpolation("setting").inv_freq
    tried = result.pictures("tried")
    assert [len(one.table) for one in tried] == [len(study.trials) for study in result.studies]
    assert len(result.table()) == 6
