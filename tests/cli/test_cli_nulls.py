"""`diagnose`: --null, --band-cost and --csv, what they ask of the stage and what they print."""

import csv
import json

import pytest

from qroar_core.cli.tables_of_bands import null_table
from qroar_core.diagnostics.band_table import band_table, to_csv
from qroar_core.diagnostics.null import NullRow
from tests.cli.command import printed, refused
from tests.helpers import planted_prediction
from tests.helpers.planted_nulls import with_nulls


@pytest.fixture
def asked(stages):
    specs = []

    def run(loaded, setting, documents, on_step=None, **kw):
        specs.append(setting.diagnosis)
        return with_nulls()

    stages.patch(stages.diagnose, "run", run)
    return specs


def test_null_asks_for_several_draws_and_prints_every_row(capfd, asked):
    plain = printed(capfd, "diagnose", "demo")
    told = printed(capfd, "diagnose", "demo", "--null")
    assert [spec.null_draws for spec in asked] == [1, 8]
    assert [spec.band_cost for spec in asked] == [False, False]
    assert "beside its null" not in plain
    (row,) = [line for line in told.splitlines() if "its channels assigned to the bands at random" in line]
    each = [1.25 / ((1 + 1.25**2) / 2) ** 0.5, 1.5 / ((1 + 1.5**2) / 2) ** 0.5]
    measured, null = 2 / 2.5**0.5, sum(each) / 2
    assert each == pytest.approx([1.104, 1.177], abs=5e-4)  # half their range is 0.036: two decimals
    for words in (f"{measured:.2f}", f"{null:.2f}", "1.10 to 1.18"):
        assert f" {words} " in row


def test_json_with_null_holds_the_bands_and_the_rows(capfd, asked):
    told = json.loads(printed(capfd, "diagnose", "demo", "--null", "--json"))
    assert set(told) == {"bands", "nulls"}
    assert [band["int4_noise_nats"] for band in told["bands"]] == [1.0, 2.0]
    assert [row["control"] for row in told["nulls"]] == [row.control for row in with_nulls().null_rows()]
    dealt = "the same error, its channels assigned to the bands at random"
    (row,) = [row for row in told["nulls"] if row["control"] == dealt]
    assert row["measured"] == pytest.approx(2 / 2.5**0.5, rel=1e-5)


def test_the_distance_law_is_asked_of_the_stage(capfd, asked):
    printed(capfd, "diagnose", "demo")
    printed(capfd, "diagnose", "demo", "--distance-law", "uniform")
    assert [spec.law for spec in asked] == ["causal", "uniform"]


def test_band_cost_is_asked_of_the_stage(capfd, asked):
    printed(capfd, "diagnose", "demo", "--band-cost")
    assert asked[0].band_cost


def test_the_csv_holds_the_table_and_is_never_written_over(capfd, asked, tmp_path):
    path = tmp_path / "new" / "bands.csv"
    path.parent.mkdir()
    printed(capfd, "diagnose", "demo", "--csv", path)
    assert path.read_text() == to_csv(band_table(with_nulls().as_written()))
    assert [row["int4_noise_nats"] for row in csv.DictReader(path.open())] == ["1.0", "2.0"]
    assert refused(capfd, "diagnose", "demo", "--csv", path).endswith("already exists; choose a new file")
    assert len(asked) == 1


def test_a_diagnosis_is_never_taken_for_one_with_other_draws(capfd, asked, tmp_path):
    printed(capfd, "diagnose", "demo", "--out", tmp_path / "d")
    assert "already exists" in refused(capfd, "diagnose", "demo", "--null", "--out", tmp_path / "d")


def test_the_cost_measured_by_predict_joins_its_table_and_csv(capfd, stages, tmp_path):
    from qroar_core.evidence.prediction import run as predict

    predicted = planted_prediction.prediction(bands=2)
    stages.patch(predict, "run", lambda *a, **kw: predicted)
    out = printed(capfd, "predict", "demo", "--csv", tmp_path / "b.csv")
    read = list(csv.DictReader((tmp_path / "b.csv").open()))
    assert [float(row["nll_cost_nats"]) for row in read] == pytest.approx([c.nll for c in predicted.bands], rel=1e-5)
    lines = [line.split() for line in out.splitlines() if line.strip().startswith(("0 (0-1)", "1 (2-3)"))]
    assert [line[-3] for line in lines] == [f"{c.nll:.4g}" for c in predicted.bands]  # before unseen phase, side peak


def test_no_number_is_cut_beside_long_words(capfd):
    """The keys that a setting's error is of take many words; a table of 400 columns cut the numbers beside them."""
    row = NullRow(
        diagnostic="Outliers", quantity="w" * 300, measured=-0.0067891, null=0.00123461, low=-1.5e-05, control="c" * 150
    ).model_copy(update={"high": 0.00987661})
    null_table([row])
    told = capfd.readouterr().out
    assert all(words in told for words in ("-0.007", "0.001", "0.000 to 0.010", "w" * 300, "c" * 150))
    assert "…" not in told
