"""The Bands page: the table with its columns, what joins it, and files of before the mending on every page."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from qroar_core.diagnostics.band_labels import span
from qroar_core.diagnostics.band_table import band_table
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.figures.picture import FROM_FREQUENCIES, OLDER
from tests.helpers import planted, planted_prediction
from tests.helpers.planted_nulls import with_nulls
from tests.pages.visitor import button, clicked, go, settled, texts, titles

pytestmark = pytest.mark.slow
OLD = Path(__file__).parents[1] / "runs" / "older" / "diagnosis.json"
SEE = ("bands", "pressure", "tails", "outliers", "noise")


def diagnosed(app, page="bands"):
    go(app, page)
    return clicked(app, "Diagnose")


def table(app):
    return app.dataframe[0].value


def test_the_table_holds_every_column_with_its_name_and_hides_what_is_unknown(loaded_app, stages):
    stages.patch(stages.diagnose, "run", lambda *a, **kw: with_nulls())
    app = diagnosed(loaded_app)
    shown = table(app)
    assert shown["int4_noise_nats"].tolist() == [1.0, 2.0]
    assert shown["rho_a_k"].tolist() == pytest.approx([1.0, 1.425])
    columns = json.loads(app.dataframe[0].proto.columns)
    assert columns["rho_a_k"]["label"] == "ρ_A k"
    assert "on the quantizer's axes" in columns["rho_a_k"]["help"]
    order = list(app.dataframe[0].proto.column_order)
    assert order[:5] == ["band", "native_wavelength_min_tokens", "wavelength_min_tokens", "pressure_rad", "rho_w_q"]
    assert "int4_noise_nats" in order
    assert not {"nll_cost_nats", "last_pair", "wavelength_max_tokens"} & set(order)
    assert columns["wavelength_min_tokens"]["label"] == "wavelength"
    rows = band_table(with_nulls())
    assert shown["wavelength_min_tokens"].tolist() == [row.wavelength_min_tokens for row in rows]  # sorted by these
    told = pa.ipc.open_stream(app.dataframe[0].proto.arrow_data.styler.display_values).read_pandas()
    assert told["rho_a_k"].tolist() == ["1", "1.43"]  # of 1.425
    drawn = told["wavelength_min_tokens"].tolist()
    assert drawn == [span(row.wavelength_min_tokens, row.wavelength_max_tokens) for row in rows]
    assert "The Evidence page measures what rounding a band alone costs" in texts(app)
    assert titles(app)[1] == "All diagnostics of each band"  # below the finding
    assert any("What would these read" in e.label for e in app.expander)
    beside = app.dataframe[1].value
    assert beside["control"].tolist() == [row.control for row in with_nulls().null_rows()]
    (dealt,) = beside[beside["control"] == "the same error, its channels assigned to the bands at random"].itertuples()
    assert (dealt.measured, dealt.null) == ("1.26", "1.14")  # of 1.2649 and 1.1405, beside a range of 0.07


def test_what_the_evidence_page_measured_joins_the_table(loaded_app, stages):
    from qroar_core.evidence.prediction import run as predict

    predicted = planted_prediction.prediction(bands=2)
    stages.patch(predict, "run", lambda *a, **kw: predicted)
    go(loaded_app, "evidence")
    clicked(loaded_app, "Round each band alone")
    go(loaded_app, "bands")
    app = settled(loaded_app)
    assert table(app)["nll_cost_nats"].tolist() == pytest.approx([c.nll for c in predicted.bands])
    assert "The Evidence page measures what rounding a band alone costs" not in texts(app)


def test_draws_and_the_output_cost_are_options_of_the_diagnosis(loaded_app, stages):
    asked = []

    def run(loaded, setting, *a, **kw):
        asked.append(setting.diagnosis)
        return planted.diagnosis()

    stages.patch(stages.diagnose, "run", run)
    go(loaded_app, "bands")
    loaded_app.number_input(key="null draws").set_value(5).run()
    loaded_app.checkbox(key="band cost").check().run()
    clicked(loaded_app, "Diagnose")
    assert [(spec.null_draws, spec.band_cost) for spec in asked] == [(5, True)]


def test_a_diagnosis_of_before_the_mending_opens_on_every_page(loaded_app, stages):
    stages.patch(stages.diagnose, "run", lambda *a, **kw: Diagnosis.from_file(OLD))
    app = diagnosed(loaded_app)
    assert OLDER in texts(app)
    assert table(app)["pressure_rad"].notna().all()
    for page in SEE[1:]:
        go(app, page)
        assert not app.exception
        assert not app.error
        assert len(app.get("plotly_chart")) >= 3
    go(app, "tune")
    assert not app.exception


def test_every_figure_of_it_on_every_page_says_that_it_is_from_before(loaded_app, stages):
    stages.patch(stages.diagnose, "run", lambda *a, **kw: Diagnosis.from_file(OLD))
    app = diagnosed(loaded_app)
    for page in SEE[1:]:
        go(app, page)
        closed = sum(FROM_FREQUENCIES in c.value for c in app.caption)
        assert closed == (4 if page == "pressure" else 0)  # methods side by side, unseen phases and the kernel
        assert sum(OLDER in c.value for c in app.caption) == len(app.get("plotly_chart")) - closed > 0, page


def test_nothing_is_shown_before_there_is_a_diagnosis(loaded_app):
    app = go(loaded_app, "bands")
    assert not app.get("plotly_chart")
    assert "Not measured for this setup yet" in app.info[0].value
    assert button(app, "Diagnose")
