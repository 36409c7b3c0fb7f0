"""How many digits are shown: by hand, and what figures, tables and the command line show beside what they keep."""

import pytest

from qroar_core.diagnostics.dilation import figure as dilation
from qroar_core.diagnostics.null import NullRow
from qroar_core.diagnostics.outliers import figure as outliers
from qroar_core.figures.nulls import in_words, null_table
from qroar_core.runs.html_page import table_html
from qroar_core.statistics.digits import largest, ranged, shown, within
from tests.helpers import planted


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (1.90412, 0.025, "1.90"),  # first digit of the error
        (1.90412, 0.0125, "1.904"),  # it is a 1: one more
        (-0.003216, 0.0004, "-0.0032"),
        (23.4127, 0.35, "23.4"),
        (1234.56, 20.0, "1230"),
        (0.7, 3.0, "1"),  # the error is larger than the number: still to its place
        (-0.4, 3.0, "0"),
        (3.0, 40.0, "3"),  # a count is exact: two digits at least
        (1234.0, 400.0, "1200"),
        (0.9995123, 0.00003, "0.99951"),
        (9.9996, 0.05, "10.00"),
        (0.0, 0.05, "0"),
        (7.0, 3.4, "7"),  # a count
        (7.0, 0.04, "7.00"),
        (6.123456, None, "6.12"),
        (6.123456, 0.0, "6.12"),
        (123456.0, None, "123000"),
        (None, 0.1, ""),
        (float("nan"), None, ""),
        (2e-7, None, "2e-07"),
        (9.9996e-05, 2e-6, "0.000100"),
    ],
)
def test_as_many_digits_as_the_error_supports(value, error, words):
    assert shown(value, error) == words


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (30.1234, 1.02, "30.1 ± 1.0"),  # to the second digit of an error that begins with a 1
        (20.7123, 0.68, "20.7 ± 0.7"),
        (1234.56, 22.0, "1230 ± 20"),
        (1234.56, 220.0, "1200 ± 200"),
        (0.7123, 3.0, "1 ± 3"),
        (0.5, 12.0, "0 ± 12"),
        (0.00016, 0.02401, "0.00 ± 0.02"),
        (-0.00016, 0.02401, "0.00 ± 0.02"),
        (30.1, 0.0, "30.1"),
        (2.0, 1e-9, "2.00000 ± 1e-09"),
    ],
)
def test_a_number_and_its_error_end_at_one_place(value, error, words):
    assert within(value, error) == words


def test_a_largest_value_has_two_digits():
    assert [largest(v) for v in (16.97, 8.534, 101.7, 0.01234, 15.0, None)] == ["17", "8.5", "100", "0.012", "15", ""]


def test_a_middle_and_its_range_have_one_place():
    assert ranged(4.5283, 4.1987, 4.9012) == "4.5 [4.2, 4.9]"
    assert ranged(1.08123, 1.07512, 1.09211) == "1.081 [1.075, 1.092]"


def test_rows_of_nulls_show_what_their_range_supports_and_keep_every_digit():
    rows = [
        NullRow(
            diagnostic="a", quantity="b", measured=1.9012345, null=1.191234, low=1.17345, high=1.22456, control="c"
        ),
        NullRow(diagnostic="a", quantity="d", measured=5.1834567, null=None, control="c"),
        # its own error is coarser than the range, which without an upper end reaches to no error
        NullRow(diagnostic="a", quantity="e", measured=3.9851, null=3.4, low=3.39, high=3.41, error=0.1, control="c"),
        NullRow(
            diagnostic="a", quantity="f", measured=21.26, null=25.1, low=18.3, high=144.49, open_above="no", control="c"
        ),
    ]
    words = in_words(rows)
    assert words[["measured", "null", "low", "high"]].values.tolist() == [
        ["1.90", "1.19", "1.17", "1.22"],
        ["5.18", "", "", ""],
        ["3.99", "3.40", "3.39", "3.41"],
        ["21", "25", "18", "no"],
    ]
    assert null_table(rows)["measured"].tolist() == [1.9012345, 5.1834567, 3.9851, 21.26]


def test_figures_and_reports_show_two_digits_of_a_largest_value_and_tables_keep_all():
    found = planted.diagnosis()
    maps = found.outliers.maps | {"k/post": [[[[16.9712] * 2] * 4] * 2] * 2}
    found = found.model_copy(update={"outliers": found.outliers.model_copy(update={"maps": maps})})
    shown = outliers.layers(found, "k/post")
    assert shown.title.startswith("Keys after RoPE peaks at 17: ") or " peaks at 17: " in shown.title
    assert any(": 17 in channel" in words for words in shown.figure.data[1].text)
    assert set(shown.table["peak"]) == {16.9712}
    written = table_html(shown.table)
    assert "<td>17</td>" in written
    assert "16.97" not in written
    ranges = dilation.by_position(found.model_copy(update={"dilation": _loud(found.dilation)}), 0)
    assert all(words.endswith(": 17") for words in ranges.figure.data[0].hovertext[0])


def _loud(seen):
    return seen.model_copy(update={"absmax": [[[16.9712] * len(row) for row in layer] for layer in seen.absmax]})
