"""Figures of W_Q and W_K: what each title and caption claims, true in one result and false in another."""

import numpy as np
import pytest

from qroar_core.diagnostics.outliers import figure_weights as weights
from tests.helpers import planted

D = planted.diagnosis()


def with_matrix(maps=None, by_rule=None):
    found = D.outliers
    at = {
        "matrix_maps": {"W_K": found.matrix_maps["W_K"].model_copy(update=maps or {})},
        "matrices": {"W_K": found.matrices["W_K"].model_copy(update=by_rule or {})},
    }
    return D.model_copy(update={"outliers": found.model_copy(update=at)})


def panel(picture, at, columns):
    return [list(row)[at * (columns + 1) : at * (columns + 1) + columns] for row in picture.figure.data[0].z]


def notes(picture):
    return [note.text for note in picture.figure.layout.annotations]


def test_rows_name_the_one_that_stands_out_with_its_pair_and_band():
    picture = weights.rows(D, "W_K", 0)
    assert picture.title == (
        "Rows of W_K in layer 0: channel 2: pair 2, band 1, of head 0 is 6 times its head's median row "
        f"({D.outliers.matrix_maps['W_K'].by_chance(2)} by chance, largest of all layers)"
    )
    assert panel(picture, 0, 8) == [[1, 1, 6, 1, 1, 1, 1, 1], [1] * 8]
    assert [line.x0 * 8 for line in picture.figure.layout.shapes] == [2, 4, 6]
    assert list(picture.table["band"])[:8] == [0, 0, 1, 1] * 2
    assert "is 1 times its head's median row" in weights.rows(D, "W_K", 1).title
    assert weights.loudest_layer(D, "W_K") == 0
    assert len(panel(weights.rows(D, "W_Q", 0), 0, 8)) == 4


def test_the_largest_row_by_chance_is_that_of_as_many_layers_where_the_loudest_is_shown():
    """Two heads of eight rows of 64 inputs a layer, drawn 4,000 times: the largest row over its own head's median."""
    draw = np.random.default_rng(0)
    rows = np.abs(draw.standard_normal((4000, 2, 2, 8, 64), dtype=np.float32)).mean(-1)
    times = (rows / np.median(rows, -1, keepdims=True)).max((2, 3))  # (draws, layers)
    wide = D.outliers.matrix_maps["W_K"].model_copy(update={"columns": [[1.0] * 64] * 2})
    assert wide.by_chance(1).median == pytest.approx(np.median(times[:, 0]), rel=0.01)
    assert wide.by_chance(2).median == pytest.approx(np.median(times.max(1)), rel=0.01)
    assert wide.by_chance(2).median > 1.01 * wide.by_chance(1).median
    loudest, other = (weights.rows(D, "W_K", layer).title for layer in (0, 1))
    found = D.outliers.matrix_maps["W_K"]
    assert f"({found.by_chance(2)} by chance, largest of all layers)" in loudest
    assert f"({found.by_chance(1)} by chance)" in other


def test_columns_say_how_many_stand_out_by_chance_where_the_file_knows():
    none = with_matrix(by_rule={"columns": [0.0, 0.0], "columns_by_chance": 0.25})
    assert weights.columns(none, "W_K").title.endswith("stands out (IQR, fence 1.5) (0.5 by chance)")
    one = weights.columns(with_matrix(by_rule={"columns_by_chance": 0.25}), "W_K")
    assert "that stand out: 1 (0.5 by chance), 12.5% of all" in one.title


def test_columns_say_what_they_carry_or_that_none_stands_out():
    picture = weights.columns(D, "W_K")
    assert picture.title == (
        "Input columns of W_K that stand out: 1, 12.5% of all; they carry 25.0% of the int4 per "
        "tensor error and 25.0% of the int4 per channel error"
    )
    assert panel(picture, 0, 4) == [[1, 4, 1, 1], [1] * 4]
    none = weights.columns(with_matrix(by_rule={"columns": [0.0, 0.0]}), "W_K")
    assert none.title == "No input column of W_K stands out (IQR, fence 1.5)"


def test_wide_matrices_keep_the_largest_of_a_cell():
    wide = weights.columns(with_matrix(maps={"columns": [[1.0] * 511 + [9.0]] * 2}), "W_K")
    assert panel(wide, 0, 128)[0] == [1.0] * 127 + [9.0]


def test_counts_stand_beside_the_same_rows_shuffled():
    picture = weights.counts(D, "W_K")
    assert picture.title == (
        "Rows of W_K that stand out: 1, of which 1 in band 1, by up to 6 times their head's median"
    )
    assert panel(picture, 0, 2) == [[0, 1], [0, 0]]
    assert panel(picture, 1, 2) == [[0.5, 0.5], [0, 0]]
    none = with_matrix(by_rule={"count": [[0.0, 0.0]] * 2, "magnitude": [[None, None]] * 2})
    assert weights.counts(none, "W_K").title == "None of the rows of W_K stands out (IQR, fence 1.5)"


def test_error_share_of_one_width_stands_beside_as_many_rows_at_random():
    picture = weights.error_share(D, "W_K", "int4")
    assert picture.title == (
        "Outlier rows of W_K are 3.1% of its rows and carry 5.0% of the int4 error per tensor and "
        "20.0% of the int4 error per channel"
    )
    assert notes(picture) == ["per tensor", "per channel", "null: of the rows"]
    assert panel(picture, 1, 2) == [[0.0, 0.8], [0.0, 0.0]]
    assert panel(picture, 2, 2) == [[0.0, 0.125], [0.0, 0.0]]
    assert notes(weights.error_share(D, "W_K", "int8")) == ["per tensor", "null: of the rows"]
    assert "text" in picture.sample


def test_error_by_channel_is_one_where_all_carry_the_same():
    picture = weights.error_by_channel(D, "W_K", "int4")
    assert panel(picture, 0, 8) == [[1.0] * 8] * 2
    assert panel(picture, 1, 8)[0] == pytest.approx([0.4, 0.4, 5.2, *[0.4] * 5])
    assert picture.title == (
        "One channel's rows of W_K carry up to 1 times its even share of the int4 error per "
        "tensor and 5.2 times its even share of the int4 error per channel"
    )


@pytest.mark.parametrize("bits", ["int8", "int4"])
def test_the_settings_own_quantizer_is_never_called_one_of_the_figures_width(bits):
    found = D.outliers.matrices["W_K"]
    share = {**found.error_share, "in force": found.error_share["int4 per channel"]}
    own = D.outliers.matrix_maps["W_K"]
    even = {**own.error_by_channel, "in force": own.error_by_channel["int4 per channel"]}
    d = D.model_copy(
        update={
            "outliers": D.outliers.model_copy(
                update={
                    "matrices": {"W_K": found.model_copy(update={"error_share": share})},
                    "matrix_maps": {"W_K": own.model_copy(update={"error_by_channel": even})},
                }
            )
        }
    )
    assert weights.error_share(d, "W_K", bits).title.endswith("and 20.0% of the error of the setup's quantizer")
    assert weights.error_by_channel(d, "W_K", bits).title.endswith(
        "and 5.2 times its even share of the error of the setup's quantizer"
    )


def test_all_are_in_the_report_and_none_where_there_are_none():
    assert len(weights.every(D)) == 14
    bare = D.model_copy(update={"outliers": D.outliers.model_copy(update={"matrix_maps": {}, "matrices": {}})})
    assert weights.every(bare) == []
