"""Prediction pictures: what is drawn is what was measured; intervals, verbs, payload."""

import plotly.io
import pytest

from qroar_core.evidence.prediction import figure as drawn
from qroar_core.figures.picture import PAYLOAD_LIMIT
from tests.helpers import planted_prediction as planted


def test_every_picture_has_title_units_reading_table_and_little_payload():
    for result in (planted.prediction(), planted.prediction(bands=32, layers=80)):
        pictures = drawn.pictures(result)
        assert len(pictures) == 4
        for picture in pictures:
            assert picture.title
            assert picture.how_to_read.endswith(".")
            assert len(picture.table)
            assert len(plotly.io.to_json(picture.figure)) < PAYLOAD_LIMIT
    assert len(drawn.pictures(planted.prediction(grid=False))) == 3


def test_the_forest_shows_rho_with_its_interval_baselines_last():
    result = planted.prediction()
    picture = drawn.forest(result)
    assert picture.title == result.headline
    band, cell = picture.figure.data
    assert list(picture.figure.layout.yaxis.ticktext) == [
        "interpolation pressure",
        "tail inflation of K",
        "logit noise",
        "largest |k|<br><i>baseline</i>",
    ]
    assert list(picture.figure.layout.yaxis.range) == [3.5, -0.5]
    known = [d for d in result.diagnostics if d.by_band is not None]  # tail inflation is the same in every band
    assert list(band.x) == [d.by_band.rho for d in known]
    assert [round(y) for y in band.y] == [0, 2, 3]
    ends = list(zip(band.x, band.error_x.array, band.error_x.arrayminus))
    assert [x + up for x, up, _ in ends] == pytest.approx([d.by_band.high for d in known])
    assert [x - down for x, _, down in ends] == pytest.approx([d.by_band.low for d in known])
    assert list(cell.x) == [d.by_cell.rho for d in known]
    assert band.hovertext[0].startswith(
        "interpolation pressure, band by band, measured: ranks in reverse order<br>rho -1.00"
    )
    assert len(picture.table) == 6
    assert len(drawn.forest(planted.prediction(grid=False)).figure.data) == 1


def test_costs_stand_with_intervals_and_the_estimate_beside():
    result = planted.prediction()
    picture = drawn.costs(result)
    bars, marks = picture.figure.data
    assert list(bars.y) == pytest.approx([*planted.COST, 0.005])
    assert list(bars.x)[-2:] == ["4<br>8–9", "unrotated"]
    assert bars.error_y.array[1] == pytest.approx(result.parts[1].high - result.parts[1].nll)
    assert list(marks.y) == pytest.approx([c / 4 * 10 for c in planted.COST])  # layers 1 + 2 + 3 + 4
    assert picture.title.endswith("Together 0.82 times the cost of all at once")
    assert list(picture.table["name"])[-1] == "all together"
    assert picture.figure.layout.yaxis.title.text == "cost of rounding alone, nats per token"


def test_each_panel_sets_the_cost_beside_one_diagnostic():
    result = planted.prediction()
    picture = drawn.beside(result)
    assert len(picture.figure.data) == 4
    noise = picture.figure.data[2]
    assert list(noise.y) == pytest.approx(list(planted.COST))
    assert list(noise.x) == pytest.approx([2.5 * v for v in planted.NOISE])  # mean over layers 1 to 4
    assert list(noise.text) == ["0", "1", "2", "3", "4"]
    titles = [a.text for a in picture.figure.layout.annotations]
    assert titles[0] == "interpolation pressure<br>ρ -1.00 [-1.00, -0.05]"
    assert titles[1] == "tail inflation of K<br>cannot be ranked"
    assert picture.figure.layout.xaxis3.title.text == "nats RMS"
    units = [axis.title.text for axis in picture.figure.select_xaxes() if axis.title.text]
    assert "rad if the stretch<br>grows 2.7 times" in units
    assert max(len(line) for unit in units for line in unit.split("<br>")) <= drawn.UNIT_ROOM
    assert picture.figure.layout.yaxis.title.text == "cost, nats per token"


def test_the_map_names_its_worst_cell():
    picture = drawn.by_cell(planted.prediction())
    assert picture.title == "Where does rounding cost most? In layer 3, band 4: 20% of all cells together"
    assert picture.figure.data[0].z[3][4] == pytest.approx(100.0)  # 0.1 nats, in thousandths
    assert drawn.by_cell(planted.prediction(grid=False)) is None


def test_layers_of_a_hybrid_go_by_their_number_in_the_decoder():
    plain = planted.prediction()
    numbers = [3 + 4 * i for i in range(len(plain.kl))]
    picture = drawn.by_cell(plain.model_copy(update={"decoder_layers": numbers}))
    assert list(picture.figure.data[0].y) == [f"layer {i}" for i in numbers]
    assert picture.table.layer.unique().tolist() == numbers
