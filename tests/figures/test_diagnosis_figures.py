"""The diagnosis pictures: figure, table and result say the same."""

import math

import planted
import plotly.io
import pytest

from qroar_core.figures import aliasing, anisotropy, dilation, noise, outliers, pressure, tails
from qroar_core.figures.gallery import gallery
from qroar_core.figures.picture import PAYLOAD_LIMIT

D = planted.diagnosis()
PICTURES = {
    "pressure by band": pressure.by_band(D),
    "pressure by pair": pressure.by_pair(D),
    "unseen": aliasing.unseen(D),
    "kernel": aliasing.kernel(D),
    "tails": tails.by_layer_and_band(D),
    "dilation": dilation.by_position(D, 1),
    "anisotropy": anisotropy.by_angle(D),
    "outlier map": outliers.channel_map(D, "k/post", 0, 1),
    "outlier shift": outliers.shift(D, "k/post"),
    "outlier error": outliers.error_share(D, "int4"),
    "noise by position": noise.by_position(D),
    "noise by distance": noise.by_distance(D),
    "noise by band": noise.by_layer_and_band(D),
    "pair error": noise.pair_error(D),
    "hidden": noise.hidden_states(D),
}


def z(name):
    return [list(row) for row in PICTURES[name].figure.data[0].z]


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_has_title_units_reading_table_and_little_payload(name):
    picture = PICTURES[name]
    assert picture.title
    assert picture.how_to_read.endswith(".")
    assert len(picture.table) > 0
    assert picture.figure.layout.xaxis.title.text
    assert len(plotly.io.to_json(picture.figure)) < PAYLOAD_LIMIT


def test_pressure_names_the_band_that_turns_and_the_band_that_matters():
    picture = PICTURES["pressure by band"]
    assert [list(bars.y) for bars in picture.figure.data] == [[0.5, 4.0], [0.02, 0.01]]
    assert picture.title == "Band 1 turns most under the interpolation, band 0 moves the logits most"
    assert list(picture.table["interpolation_pressure"]) == [0.5, 4.0]


def test_pairs_stand_at_their_wavelength():
    line = PICTURES["pressure by pair"].figure.data[0]
    assert list(line.x) == pytest.approx([2 * math.pi * 10**i for i in range(4)])
    assert list(line.y) == [0.0, 1.0, 3.0, 5.0]


def test_tails_map_and_table_with_intervals():
    picture = PICTURES["tails"]
    assert z("tails") == [[1.0, 1.5], [1.1, 2.0]]
    assert (picture.figure.data[0].zmin, picture.figure.data[0].zmax) == (0.0, 2.0)
    assert "2.00 × as far as at short context (layer 1, band 1)" in picture.title
    worst = picture.table.query("layer == 1 and kv_head == 1 and band == 1").iloc[0]
    assert (worst["ratio"], worst["low"], worst["high"], worst["long"], worst["short"]) == (2.0, 1.7, 2.4, 4.0, 2.0)


def test_empty_bins_are_holes_in_the_map_and_in_the_table():
    assert z("dilation") == [[1.5, 2.5], [3.5, None]]
    assert PICTURES["dilation"].table["absmax"].isna().sum() == 1
    assert "1.25 bits" in PICTURES["dilation"].title


def test_outlier_map_and_shift():
    assert z("outlier map") == [[1.0, 3.0]] * 8
    assert z("outlier shift") == [[1.0, 0.5], [0.25, 0.0]]
    assert list(PICTURES["outlier shift"].table["mass_moved"]) == [0.0, 0.1, 0.3, 1.0]
    assert z("outlier error") == [[0.5, 0.1], [0.2, None]]


def test_noise_lines_and_the_noisiest_band():
    rms, kl = PICTURES["noise by position"].figure.data
    assert (list(rms.x), list(rms.y), list(kl.y)) == ([16, 64], [0.1, 0.2], [0.01, 0.03])
    assert "layer 0, band 1" in PICTURES["noise by band"].title
    assert list(PICTURES["noise by distance"].table["rms"]) == [0.1, 0.4]


def test_pair_error_is_averaged_over_bins_in_the_figure_and_whole_in_the_table():
    length, angle = PICTURES["pair error"].figure.data
    assert list(length.y) == pytest.approx([0.15, 0.3])
    assert list(angle.y) == pytest.approx([0.1, 0.3])
    assert "50% of the error energy is length" in PICTURES["pair error"].title
    assert len(PICTURES["pair error"].table) == 4


def test_anisotropy_is_drawn_in_degrees():
    assert list(PICTURES["anisotropy"].figure.data[0].x) == pytest.approx([0, 45])
    assert "up to 3.0" in PICTURES["anisotropy"].title


def test_without_a_quantizer_the_noise_pictures_are_absent():
    clean = planted.diagnosis(quantized=False)
    for draw in (noise.by_position, noise.by_distance, noise.by_layer_and_band, noise.pair_error, noise.hidden_states,
                 anisotropy.by_angle):  # fmt: skip
        assert draw(clean) is None


def test_the_gallery_holds_every_picture_of_a_run():
    chapters = gallery(D, planted.report(), planted.scales(), planted.evaluation())
    assert {name: len(pictures) for name, pictures in chapters.items()} == {
        "Diagnosis": 17,
        "Search": 2,
        "Evaluation": 4,
    }
    clean = gallery(planted.diagnosis(quantized=False), planted.report(), planted.scales(), planted.evaluation())
    assert len(clean["Diagnosis"]) == 11
