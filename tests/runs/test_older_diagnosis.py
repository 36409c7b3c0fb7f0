"""A diagnosis of before the mending still opens, draws every figure, and each figure says that it is from before."""

from __future__ import annotations

import html
import json
from pathlib import Path

import pytest

from qroar_core.diagnostics import run as diagnose
from qroar_core.diagnostics.aliasing import figure as aliasing
from qroar_core.diagnostics.band_table import band_table
from qroar_core.diagnostics.bands import figure as bands
from qroar_core.diagnostics.bands.result import BandCost
from qroar_core.diagnostics.outliers import figure as outliers
from qroar_core.diagnostics.outliers import figure_rules as outlier_rules
from qroar_core.diagnostics.outliers import figure_weights as outlier_weights
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.diagnostics.sample import Sample
from qroar_core.evidence.prediction import figure as drawn
from qroar_core.evidence.prediction.result import Prediction
from qroar_core.figures.gallery import diagnosed
from qroar_core.figures.picture import FROM_FREQUENCIES, FROM_WEIGHTS, OLDER
from qroar_core.models.text import Document
from qroar_core.runs.manifest import Manifest
from qroar_core.runs.report import report_html
from qroar_core.setting import Setting
from qroar_core.specs import BandSpec, DiagnosisSpec, QuantizerSpec, QuantSpec, RopeSpec
from tests.helpers import planted, planted_prediction

OLD = Path(__file__).parent / "older" / "diagnosis.json"  # of b951c7e: demo, YaRN x4, K int4, 256 tokens, 2 bands
TEXT = [Document("a", "".join(chr(97 + (i * i + 3 * i) % 26) for i in range(900)))]


@pytest.fixture
def old():
    return Diagnosis.from_file(OLD)


@pytest.fixture
def fresh(tiny):
    spec = DiagnosisSpec(
        length=128, short_length=32, paired_tokens=16, windows=3, bands=BandSpec(3), eps=0.02, query_rows=9
    )
    return diagnose.run(tiny(), Setting(RopeSpec("yarn", 2.0), QuantSpec(k=QuantizerSpec(4)), diagnosis=spec), TEXT)


def test_the_file_is_small_and_holds_no_younger_field():
    assert OLD.stat().st_size < 200_000
    assert "band_cost" not in json.loads(OLD.read_text())


def test_it_says_that_query_heads_are_pooled_where_every_one_counts_by_itself_now(old, fresh):
    assert len(old.outliers.maps["q/post"][0]) == len(old.outliers.maps["k/post"][0])
    for which, said in (("q/post", True), ("k/post", False)):
        for draw in (outliers.layers, lambda d, w: outliers.channel_map(d, w, 0, 0), outlier_rules.shift):
            assert ("query heads that read one KV head are pooled" in draw(old, which).how_to_read) == said
            assert "are pooled" not in draw(fresh, which).how_to_read
    assert len(fresh.outliers.maps["q/post"][0]) == 2 * len(fresh.outliers.maps["k/post"][0])
    assert "query head" in outliers.layers(fresh, "q/post").title
    assert "KV head" in outliers.layers(old, "q/post").title


def test_it_opens_with_its_table_of_bands(old):
    rows = band_table(old)
    assert [(row.first_pair, row.last_pair) for row in rows] == [(0, 15), (16, 31)]
    assert rows[0].pressure_rad == old.bands[0].interpolation_pressure
    assert rows[0].int4_noise_nats is None
    assert bands.sample(old) == f"{OLDER} Amplitude and phase errors:{old.pair_error.older}"
    assert bands.alone(old) is None
    assert old.null_rows("band_cost") == []


def test_no_caption_points_to_a_null_that_it_does_not_hold(old, fresh):
    for picture in (outliers.layers(old, "k/post"), outliers.channel_map(old, "k/post", 0, 0)):
        assert "This file holds no null of which channels stand out." in picture.how_to_read
        assert "below" not in picture.how_to_read
    for picture in (outliers.layers(fresh, "k/post"), outliers.channel_map(fresh, "k/post", 0, 0)):
        assert "and whether they are the same far out, is held against nulls below." in picture.how_to_read
    counts = old.outliers.model_copy(update={"count": fresh.outliers.count})
    said = outliers.layers(old.model_copy(update={"outliers": counts}), "k/post").how_to_read
    assert "Which channels stand out is held against nulls below." in said


def test_every_figure_of_it_is_drawn(old):
    assert len(diagnosed(old)) >= 15


def test_every_figure_of_it_says_that_it_is_from_before(old):
    """But those of frequencies alone: their definition is as it was, and no text is in them."""
    shown = diagnosed(old)
    assert [p.sample for p in shown if p.sample != OLDER] == [FROM_FREQUENCIES] * 2
    assert sorted(p.title for p in shown if p.sample == FROM_FREQUENCIES) == sorted(p.title for p in closed(old))


def closed(diagnosis):
    """The figures of a diagnosis that no text is behind."""
    return [aliasing.unseen(diagnosis), aliasing.kernel(diagnosis)]


def test_every_figure_of_a_fresh_diagnosis_says_what_it_was_counted_on(fresh):
    shown = diagnosed(fresh)
    assert [p.title for p in shown if not p.sample] == []
    assert [p.title for p in shown if OLDER in p.sample] == []
    none = {FROM_FREQUENCIES: closed(fresh), FROM_WEIGHTS: outlier_weights.every(fresh)}
    for said, pictures in none.items():
        assert sorted(p.title for p in shown if p.sample == said) == sorted(p.title for p in pictures)
    assert len(none[FROM_WEIGHTS]) == 14
    text = [p for p in shown if p.sample not in none]
    assert len(text) >= 25
    assert [p.title for p in text if not p.sample.startswith("Counted on ")] == []
    assert [p.title for p in text if " tokens" not in p.sample] == []


def test_tokens_rows_draws_and_seeds_are_those_of_the_run(fresh):
    """By figure: what was asked for is what is said."""
    said = {p.title.partition("?")[0]: p.sample for p in diagnosed(fresh)}

    def of(words):
        (found,) = (sample for title, sample in said.items() if words in title)
        return found

    assert of("Does the noise on the logits grow") == "Counted on 128 tokens, 9 sampled query rows."
    assert of("How far do the hidden states drift").startswith("Counted on 128 tokens, 127 sampled rows of hidden")
    assert "query rows" not in of("How far do the hidden states drift")
    assert (
        of("How large do keys get")
        == "Counted on 128 tokens read by the unquantized model; the null was drawn 19 times (seed 0)."
    )
    assert of("with sides swapped") == (
        "Counted on 48 tokens read by the unquantized model, 3 windows; the interval is a 95 % bootstrap over windows "
        "(seed 0)."
    )
    assert of("peaks at") == "Counted on 128 tokens read by the unquantized model."  # no null is drawn there
    counted = "Counted on 128 tokens read by the unquantized model, 9 sampled query rows"
    assert bands.sample(fresh) == f"{counted}; the null was drawn 19 times (seed 0)."


def test_the_figure_and_the_table_of_bands_say_what_they_were_counted_on(fresh):
    bars = "bars are standard errors over the sampled rows"
    null = "the null was drawn 19 times (seed 0)."
    assert (
        bands.alone(fresh).sample
        == f"Counted on 128 tokens read by the unquantized model, 9 sampled query rows; {bars}; {null}"
    )
    assert bands.sample(fresh) == f"Counted on 128 tokens read by the unquantized model, 9 sampled query rows; {null}"


def test_its_report_says_so_above_the_table(old):
    manifest = Manifest(
        versions={},
        command="x",
        model={"name": "demo"},
        specs={},
        seed=0,
        device="cpu",
        dtype="float32",
        text="messages",
    )
    told = report_html(manifest, old, planted.report(), planted.scales(), planted.evaluation())
    chapter = told.partition('<h2 id="bands">')[2].partition("<h2 ")[0]
    assert f"<p>{html.escape(OLDER)} Amplitude and phase errors:" in chapter
    assert "<th>ρ_A k</th>" in chapter
    assert "<th>int4 alone: logit noise, nats</th>" not in chapter


def test_the_reports_chapter_of_nulls_comes_with_rows():
    cost = BandCost(
        noise={"int4": [[1.0, 2.0, None]] * 2},
        attention_kl={"int4": [[0.1, 0.2, None]] * 2},
        error_share={"int4": [[0.5, 0.5, None]] * 2},
        channels=[4, 4, 0],
        null={"int4": [[[1.0, 1.25]] * 2, [[1.0, 1.5]] * 2]},
        sample=Sample(tokens=64, rows=2),
    )
    manifest = Manifest(
        versions={},
        command="x",
        model={"name": "demo"},
        specs={},
        seed=0,
        device="cpu",
        dtype="float32",
        text="messages",
    )
    found = planted.diagnosis().model_copy(update={"band_cost": cost})
    told = report_html(manifest, found, planted.report(), planted.scales(), planted.evaluation())
    chapter = told.partition('<h2 id="nulls">')[2].partition("<h2 ")[0]
    assert "its channels assigned to the bands at random" in chapter
    assert "<td>1.26</td>" in chapter  # the loudest band over the RMS of both, beside a null whose range is 0.07
    assert '<a href="#nulls">' in told


def test_figures_of_a_prediction_tell_apart_an_older_one_and_one_beside_an_older_diagnosis():
    older = planted_prediction.prediction()
    assert {p.sample for p in drawn.pictures(older)} == {OLDER}
    update = {"sample": Sample(tokens=4096, windows=4, seed=1), "diagnosis_sample": None}
    forest, beside, costs, by_cell = drawn.pictures(older.model_copy(update=update))
    for shown in (forest, beside):
        assert shown.sample == f"Costs: Counted on 4,096 tokens, 4 windows (seed 1). Diagnostics: {OLDER}"
    assert costs.sample == "Counted on 4,096 tokens, 4 windows (seed 1)."
    assert by_cell.sample == "Counted on 2,048 tokens, 4 windows (seed 1)."
    mended = older.model_copy(update=update | {"diagnosis_sample": Sample(tokens=512)})
    assert drawn.forest(mended).sample.endswith("Diagnostics: Counted on 512 tokens.")


def test_an_older_prediction_still_opens():
    told = json.loads(planted_prediction.prediction().to_json())
    for younger in ("sample", "diagnosis_sample"):
        told.pop(younger)
    assert Prediction.model_validate(told).sample is None
