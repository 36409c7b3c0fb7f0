"""The diagnosis pictures: figure, table and result say the same."""

import functools
import math

import plotly.io
import pytest

from benchmarks.synthetic import inflated
from qroar_core.diagnostics.aliasing import figure as aliasing
from qroar_core.diagnostics.anisotropy import figure as anisotropy
from qroar_core.diagnostics.dilation import figure as dilation
from qroar_core.diagnostics.logit_noise import figure as noise
from qroar_core.diagnostics.logit_noise import figure_split as noise_split
from qroar_core.diagnostics.outliers import figure as outliers
from qroar_core.diagnostics.outliers import figure_rules as outlier_rules
from qroar_core.diagnostics.outliers.figure_channels import runs
from qroar_core.diagnostics.pair_error import figure as pair_error
from qroar_core.diagnostics.pressure import figure as pressure
from qroar_core.diagnostics.rounding import figure as rounding
from qroar_core.diagnostics.similarity import figure as similarity
from qroar_core.diagnostics.tail_inflation import figure as tails
from qroar_core.figures.gallery import gallery
from qroar_core.figures.heatmaps import pooled, pooled_edges, pooled_map
from qroar_core.figures.picture import PAYLOAD_LIMIT
from tests.helpers import planted

D = planted.diagnosis()
TUNED = D.model_copy(
    update={
        "logit_noise": D.logit_noise.model_copy(update={"rms": [0.05, 0.1], "by_band": [[0.05, 0.1], [0.05, 0.1]]}),
        "pair_error": D.pair_error.model_copy(update={"amplitude": [[0.05, 0.05], [0.1, 0.2]]}),
        "scales_mode": "symmetric",
    }
)
PICTURES = {
    "pressure by band": lambda: pressure.by_band(D),
    "pressure by pair": lambda: pressure.by_pair(D),
    "unseen": lambda: aliasing.unseen(D),
    "kernel": lambda: aliasing.kernel(D),
    "tails": lambda: tails.overview(D),
    "survival": lambda: tails.survival(D, ("k/post", 1, 1, 1)),
    "dilation": lambda: dilation.by_position(D, 1),
    "dilation of a band": lambda: dilation.of_band(D, 1, 1),
    "anisotropy": lambda: anisotropy.by_angle(D),
    "outlier layers": lambda: outliers.layers(D, "k/post"),
    "outlier map": lambda: outliers.channel_map(D, "k/post", 0, 1),
    "outlier counts": lambda: outlier_rules.counts(D, "k/post"),
    "outlier shift": lambda: outlier_rules.shift(D, "k/post"),
    "outlier error": lambda: outlier_rules.error_share(D),
    "noise by position": lambda: noise.by_position(D, TUNED),
    "noise by distance": lambda: noise.by_distance(D),
    "noise by band": lambda: noise.by_layer_and_band(D, TUNED),
    "noise split by band": lambda: noise_split.split(D, "band"),
    "noise split by layer": lambda: noise_split.split(D, "layer"),
    "pair error": lambda: pair_error.amplitude_and_phase(D, TUNED),
    "lengths": lambda: rounding.lengths(D),
    "hidden": lambda: similarity.hidden_states(D),
}


@functools.cache
def drawn(name):
    """A picture, made when the first test asks for it."""
    return PICTURES[name]()


def z(name, panel=0):
    """A map's values; planted maps side by side have two columns each and an empty one between."""
    whole = [list(row) for row in drawn(name).figure.data[0].z]
    assert all(v is None for row in whole for v in row[2::3]) or name == "outlier layers"
    return [row[3 * panel : 3 * panel + 2] for row in whole]


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_has_title_units_reading_table_and_little_payload(name):
    picture = drawn(name)
    assert picture.title
    assert picture.how_to_read.endswith(".")
    assert len(picture.table) > 0
    assert picture.figure.layout.xaxis.title.text
    assert len(plotly.io.to_json(picture.figure)) < PAYLOAD_LIMIT


def test_pressure_names_the_band_that_turns_and_the_band_that_matters():
    picture = drawn("pressure by band")
    assert [list(bars.y) for bars in picture.figure.data[:2]] == [[0.5, 4.0], [0.015, 0.007]]
    assert picture.title == "The angles of band 1 change most, and band 0 moves the logits most"
    assert list(picture.table["interpolation_pressure"]) == [0.5, 4.0]


def test_pairs_stand_at_their_wavelength():
    line = drawn("pressure by pair").figure.data[0]
    assert list(line.x) == pytest.approx([2 * math.pi * 10**i for i in range(4)])
    assert list(line.y) == [0.0, 1.0, 3.0, 5.0]


def test_tails_maps_share_one_scale_and_their_cells_can_be_clicked():
    picture = drawn("tails")
    assert [z("tails", panel) for panel in range(4)] == [[[1.0, 1.5], [1.1, 2.0]]] * 4
    axis = picture.figure.layout.coloraxis
    assert (axis.cmin, axis.cmax) == (0.0, 2.0)  # around 1, "as far as at short context"
    cells = picture.figure.data[1]
    assert list(cells.customdata[:4]) == [["k/post", layer, band] for layer in (0, 1) for band in (0, 1)]
    assert [which for which, _, _ in cells.customdata[::4]] == ["k/post", "k/pre", "q/post", "q/pre"]
    edges = picture.figure.data[0].x
    for i, (x, y, (_, layer, band)) in enumerate(zip(cells.x, cells.y, cells.customdata)):
        column = 3 * (i // 4) + band
        assert edges[column] < x < edges[column + 1]  # each point lies on its cell
        assert y == layer
    assert cells.text[3] == "rho_A, K after RoPE, layer 1, band 1: 2.00 ×"
    assert "2.00 × short context (layer 1, band 1)" in picture.title


def test_tails_table_names_the_head_with_the_largest_ratio_and_its_interval():
    rows = drawn("tails").table
    assert len(rows) == 2 * 2 * 2
    worst = rows.query("tensor == 'K' and layer == 1 and band == 1").iloc[0]
    for name in ("rho_A", "rho_W"):
        assert (worst[name], worst[f"{name}_low"], worst[f"{name}_high"]) == (2.0, 1.7, 2.4)
        assert (worst[f"{name}_kv_head"], worst[f"{name}_long"], worst[f"{name}_short"]) == (1, 4.0, 2.0)
    assert tails.worst_cell(D) == ("k/post", 1, 1, 1)
    assert tails.loudest_head(D, "k/post", 0, 1) == 0


def test_the_picked_cell_is_framed():
    picture = tails.overview(D, ("q/post", 1, 0, 0))
    (frame,) = picture.figure.layout.shapes
    edges = picture.figure.data[0].x  # three panels of two columns and a gap before it
    assert (frame.x0, frame.x1) == (pytest.approx(edges[6]), pytest.approx(edges[7]))
    assert (frame.y0, frame.y1) == (0.5, 1.5)


def test_a_level_that_is_less_than_one_value_is_not_marked():
    curves = D.survival["k/post"]
    gone = [
        [[[v if p > D.eps else None for p, v in zip(curves.share, band)] for band in head] for head in layer]
        for layer in curves.long
    ]
    short = D.model_copy(
        update={
            "survival": D.survival
            | {
                "k/post": curves.model_copy(
                    update={
                        "share": [*curves.share[:-1], D.eps],
                        "long": [[[[*band[:-1], None] for band in head] for head in layer] for layer in gone],
                    }
                )
            }
        }
    )
    picture = tails.survival(short, ("k/post", 1, 1, 1))
    diamonds = [trace for trace in picture.figure.data if trace.mode == "markers"]
    assert diamonds[0].x == (None,)
    assert (D.eps, "long") not in set(zip(picture.table["share_above"], picture.table["context"]))
    assert "less than one of them: there is no diamond" in picture.how_to_read
    assert "no diamond" not in drawn("survival").how_to_read


def test_survival_curves_pass_the_marked_level_and_title_gives_the_interval():
    picture = drawn("survival")
    long, long_mark, short, short_mark = picture.figure.data
    assert (list(long.x), list(long.y)) == ([0.2, 1.5, 4.0, 4.5], [0.9, 0.5, 0.01, 0.001])
    assert (list(short.x), list(short.y)) == ([0.1, 1.0, 2.0], [0.9, 0.5, 0.01])  # too few entries for 0.001
    assert (long_mark.x, long_mark.y) == ((4.0,), (0.01,))
    assert (short_mark.x, short_mark.y) == ((2.0,), (0.01,))
    assert picture.title == "K after RoPE, layer 1, head 1, band 1: tail 2.00 × short context [1.70, 2.40]"
    level = picture.figure.layout.annotations[0]
    assert level.text == "the largest 1 % of values"
    assert level.y == pytest.approx(-2)  # log10: a log axis places texts by exponent
    assert (picture.figure.layout.xaxis.type, picture.figure.layout.yaxis.type) == ("log", "log")
    unsure = tails.survival(D, ("k/post", 0, 0, 0))
    assert "[0.90, 1.10]; 1 lies inside: no significant growth" in unsure.title


def test_dilation_hovers_with_the_bits_lost():
    assert [list(row) for row in drawn("dilation").figure.data[0].customdata] == [[0.0, 0.5], [0.0, 1.25]]


def test_empty_bins_are_holes_in_the_map_and_in_the_table():
    assert z("dilation") == [[1.5, 2.5], [3.5, None]]
    assert drawn("dilation").table["absmax"].isna().sum() == 1
    assert "1.25 bits" in drawn("dilation").title


def test_outlier_map():
    assert z("outlier map") == [[1.0, 3.0]] * 8


@pytest.mark.parametrize("pairing", ["half", "interleaved"])
@pytest.mark.parametrize("rotary_dim", [12, 16])
def test_band_edges_and_hover_against_a_walk_over_the_pairs(pairing, rotary_dim):
    """Oracle: go through the pairs, mark both channels of each with its band, then look where neighbours differ."""
    cut = 2  # band 0: pairs 0..1, band 1: the rest
    d = planted.diagnosis().model_copy(
        update={
            "pairing": pairing,
            "rotary_dim": rotary_dim,
            "head_dim": 16,
            "bands": [planted.band(0, 0, cut - 1, 1.0, 0.1), planted.band(1, cut, rotary_dim // 2 - 1, 1.0, 0.1)],
            "outliers": D.outliers.model_copy(update={"maps": {"k/post": [[[[1.0, 2.0]] * 16]]}}),
        }
    )
    expected = {}
    for pair in range(rotary_dim // 2):
        two = (pair, pair + rotary_dim // 2) if pairing == "half" else (2 * pair, 2 * pair + 1)
        expected |= dict.fromkeys(two, (pair, int(pair >= cut)))
    picture = outliers.channel_map(d, "k/post", 0, 0)
    names = picture.figure.data[0].y
    for channel in range(16):
        pair, band = expected.get(channel, (None, None))
        words = "no rotation" if pair is None else f"pair {pair}, band {band}"
        assert names[channel] == f"channel {channel}: {words}"
    edges = [c - 0.5 for c in range(1, 16) if expected.get(c, (0, None))[1] != expected.get(c - 1, (0, None))[1]]
    assert [line.y0 for line in picture.figure.layout.shapes] == edges
    assert len(edges) == (3 if pairing == "half" else 1) + (rotary_dim < 16)
    labels = [a.text for a in picture.figure.layout.annotations]
    assert labels == (["band 0", "band 1"] * (2 if pairing == "half" else 1) + ["no rotation"] * (rotary_dim < 16))
    assert list(picture.table["band"].dropna()) == [expected[c][1] for c in sorted(expected)]


def test_one_band_in_half_pairing_is_still_drawn_twice():
    d = planted.diagnosis().model_copy(update={"bands": [planted.band(0, 0, 3, 1.0, 0.1)]})
    assert [(r.first, r.last) for r in runs(d)] == [(0, 3), (4, 7)]


def test_layer_overview_shows_the_loudest_head_and_pages_deep_models():
    picture = drawn("outlier layers")
    sheet = drawn("outlier layers").figure.data[0].z  # a title's room, then 8 channels; 2 bins, a gap, 2 bins
    assert [list(row) for row in sheet[-8:]] == [[1.0, 3.0, None, 1.0, 3.0]] * 8
    assert all(v is None for row in sheet[:-8] for v in row)
    assert picture.title.startswith("K after RoPE peaks at 3: layer 0, KV head 1, channel 0")
    assert list(picture.table["positions"]) == ["32–63", "32–63"]
    points = picture.figure.data[1]
    assert list(points.customdata) == [[0], [1]]
    assert (list(points.x), list(points.y)) == ([0.5, 3.5], [len(sheet) - 4.5] * 2)  # the middle of each panel
    quiet, loud = [[[0.5, 1.0]] * 8] * 2, [[[0.5, 1.0]] * 8, [[0.5, 1.0]] * 7 + [[9.0, 2.0]]]
    maps = [loud if layer == 17 else quiet for layer in range(30)]
    deep = D.model_copy(update={"outliers": D.outliers.model_copy(update={"maps": {"k/post": maps}})})
    assert outliers.pages(deep) == 3
    assert outliers.loudest_layer(deep, "k/post") == 17
    assert outliers.loudest_head(deep, "k/post", 17) == 1
    last = outliers.layers(deep, "k/post", page=2, picked=25)
    assert [layer for (layer,) in last.figure.data[1].customdata] == [24, 25, 26, 27, 28, 29]
    (frame,) = last.figure.layout.shapes
    assert (frame.x0, frame.x1) == (2.5, 4.5)  # the second panel
    assert last.title == ("K after RoPE peaks at 9: layer 17, KV head 1, channel 7 (layers 24–29 of 30)")
    assert len(last.table) == 30


def test_pooling_keeps_the_largest_of_what_a_cell_stands_for():
    z = [[float(10 * r + c) for c in range(5)] for r in range(4)]
    z[3][4] = None
    assert pooled_map(z, 2, 2) == [[11.0, 14.0], [31.0, 33.0]]
    assert pooled_edges([0, 10, 20, 30, 40, 50], 2) == [0, 20, 50]
    assert pooled_map(z, 9, 9) == z
    assert pooled([None, None], 1) == [None]


def test_noise_lines_with_the_reference_at_zero_and_tuned_over_quantized():
    rms, kl, tuned, _, zero, zero_kl = drawn("noise by position").figure.data
    assert (list(rms.x), list(rms.y), list(kl.y)) == ([16, 64], [0.1, 0.2], [0.01, 0.03])
    assert (tuned.name, list(tuned.y)) == ("tuned", [0.05, 0.1])
    assert [(t.name, list(t.x), list(t.y)) for t in (zero, zero_kl)] == [("reference", [16, 64], [0.0, 0.0])] * 2
    assert drawn("noise by position").title.endswith("Tuned scales change its RMS by -50%")
    assert "its own reference" not in drawn("noise by position").how_to_read
    assert list(drawn("noise by distance").table["rms"]) == [0.1, 0.4]
    assert [t.name for t in drawn("noise by distance").figure.data] == ["quantized", "reference"]
    near = D.model_copy(update={"logit_noise": D.logit_noise.model_copy(update={"distance": [0, 1]})})
    axis = noise.by_distance(near).figure.layout.xaxis
    assert (list(axis.tickvals), list(axis.ticktext)) == ([0.5, 1], ["0", "1"])


def test_shared_scales_say_that_tuned_has_a_reference_of_its_own():
    shared = TUNED.model_copy(update={"scales_mode": "shared"})
    for picture in (noise.by_position(D, shared), noise.by_distance(D, shared)):
        assert "tuned is held against its own reference" in picture.how_to_read


def test_the_noisiest_band_and_what_scales_make_of_it():
    assert z("noise by band") == [[0.1, 0.3], [0.05, 0.2]]
    assert z("noise by band", 1) == [[0.05, 0.1], [0.05, 0.1]]
    assert "layer 0, band 1" in drawn("noise by band").title
    assert list(drawn("noise by band").table["tuned_rms"]) == [0.05, 0.1, 0.05, 0.1]


def test_noise_taken_apart_by_band_and_by_layer():
    assert z("noise split by band") == [[0.05, 0.1], [0.08, 0.17]]
    assert z("noise split by band", 1) == [[0.04, 0.2], [0.09, None]]
    assert drawn("noise split by band").title.endswith("Quantized: at the farthest, most from band 1")
    assert z("noise split by layer") == [[0.1, 0.2], [0.1, 0.2]]
    assert z("noise split by layer", 1) == [[0.0, 0.02], [0.02, 0.04]]


def test_amplitude_against_phase_one_point_a_band_joined_to_its_tuned_one():
    diagonal, first, second, null = drawn("pair error").figure.data
    assert diagonal.x == diagonal.y
    assert (list(first.x), list(first.y)) == (pytest.approx([0.1, 0.1]), pytest.approx([0.025**0.5, 0.05]))
    assert list(second.x) == pytest.approx([0.1**0.5] * 2)
    assert list(second.y) == pytest.approx([0.3, 0.025**0.5])
    assert list(first.customdata) == ["quantized", "tuned"]
    assert (list(null.x), list(null.y)) == (pytest.approx([0.1, 0.2]), pytest.approx([0.1, 0.2]))
    assert null.name.startswith("null: ")
    assert (first.text[0], second.text[0]) == ("0", "1")
    assert "<br>20.00% of its quantized pairs are zero" in second.hovertemplate
    assert drawn("pair error").title.endswith("62% of the error energy is length; at random angles 50%")
    assert len(drawn("pair error").table) == 8


def test_anisotropy_is_drawn_in_degrees():
    assert list(drawn("anisotropy").figure.data[0].x) == pytest.approx([0, 45])
    assert [t.name for t in drawn("anisotropy").figure.data[2:]] == ["null: errors of other pairs"] * 2
    assert list(drawn("anisotropy").figure.data[3].y) == [0.16, 0.17]
    assert drawn("anisotropy").title.endswith("Yes: worst over best 2.17, null 1.08, difference 1.1 ± 0.5")


def test_without_a_quantizer_the_noise_pictures_are_absent():
    clean = planted.diagnosis(quantized=False)
    for draw in (
        noise.by_position,
        noise.by_distance,
        noise.by_layer_and_band,
        noise_split.split,
        similarity.hidden_states,
        pair_error.amplitude_and_phase,
        anisotropy.by_angle,
        rounding.lengths,
    ):
        assert draw(clean) is None


def test_the_gallery_holds_every_picture_of_a_run():
    chapters = gallery(D, planted.report(), planted.scales(), planted.evaluation())
    assert list(chapters) == ["Bands", "Diagnosis", "Search", "Evaluation"]
    titles = [picture.title for picture in chapters["Diagnosis"]]
    shown_in_part = {"noise by position", "noise by band", "pair error"}  # with tuned ones over them above
    same = {"dilation": dilation.by_position(D, 1), "outlier map": outliers.channel_map(D, "k/post", 0, 1)}
    for name, picture in ({name: drawn(name) for name in PICTURES} | same).items():
        if name not in shown_in_part:
            assert picture.title in titles, name
    clean = gallery(planted.diagnosis(quantized=False), planted.report(), planted.scales(), planted.evaluation())
    assert len(titles) - len(clean["Diagnosis"]) == 9  # noise 5 times, pair error, angle, lengths, hidden
    assert all(picture.title for chapter in clean.values() for picture in chapter)


@pytest.fixture(scope="module")
def llama_sized():
    """131,072 positions, 32 layers, 8 KV heads, 128 channels, 8 bands: random numbers with all their digits."""
    return inflated(planted.diagnosis(), length=131_072, layers=32, kv_heads=8, head_dim=128, bands=8)


LARGE = {
    "tails": lambda d: tails.overview(d, ("q/pre", 31, 7, 7)),
    "survival": lambda d: tails.survival(d, ("k/post", 31, 7, 7)),
    "dilation": lambda d: dilation.by_position(d, 31),
    "dilation of a band": lambda d: dilation.of_band(d, 31, 7),
    "anisotropy": anisotropy.by_angle,
    "outlier layers": lambda d: outliers.layers(d, "k/post", 2, 31),
    "outlier map": lambda d: outliers.channel_map(d, "k/post", 31, 7),
    "outlier shift": lambda d: outlier_rules.shift(d, "k/post"),
    "outlier error": outlier_rules.error_share,
    "noise by position": lambda d: noise.by_position(d, d),
    "noise by distance": lambda d: noise.by_distance(d, d),
    "noise by band": lambda d: noise.by_layer_and_band(d, d),
    "noise split": lambda d: noise_split.split(d, "layer"),
    "pair error": lambda d: pair_error.amplitude_and_phase(d, d),
    "lengths": rounding.lengths,
    "hidden": similarity.hidden_states,
}


@pytest.mark.parametrize("name", LARGE)
def test_payload_stays_small_at_131072_positions(llama_sized, name):
    picture = LARGE[name](llama_sized)
    assert len(plotly.io.to_json(picture.figure)) < PAYLOAD_LIMIT
    assert len(picture.table) > 0


def test_a_map_of_a_thousand_position_bins_is_pooled():
    fine = inflated(planted.diagnosis(), length=131_072, layers=1, kv_heads=1, head_dim=128, bands=8, bins=1024)
    for picture in (
        outliers.channel_map(fine, "k/post", 0, 0),
        outliers.layers(fine, "k/post"),
        dilation.by_position(fine, 0),
        similarity.hidden_states(fine),
    ):
        assert len(plotly.io.to_json(picture.figure)) < PAYLOAD_LIMIT
    shown = outliers.channel_map(fine, "k/post", 0, 0)
    assert len(shown.figure.data[0].x) == 256
    assert shown.figure.data[0].x[0] == "0–511"
    assert max(shown.figure.data[0].z[5]) == max(fine.outliers.maps["k/post"][0][0][5])
    assert len(shown.table.columns) == 3 + 1024


def test_panels_of_one_overview_share_no_axis_that_could_have_ticks():
    layout = drawn("outlier layers").figure.layout
    assert (layout.xaxis.ticks, layout.yaxis.ticks) == ("", "")
    assert (layout.xaxis.showticklabels, layout.yaxis.showticklabels) == (False, False)
