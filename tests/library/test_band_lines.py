"""What `print(diagnosis)` shows: narrow, one line a band, digits as the table on the page has them."""

import math

from qroar_core.diagnostics.band_labels import digits, span
from qroar_core.diagnostics.band_table import BandRow
from qroar_core.library.band_lines import NEAR, WIDTH, band_lines, wrapped
from qroar_core.library.results import Diagnosis
from tests.helpers import planted

LARGE = 123456.789


def test_a_diagnosis_prints_no_wider_than_a_terminal_and_names_its_bands():
    diagnosis = Diagnosis.of(planted.diagnosis())
    lines = str(diagnosis).splitlines()
    assert max(map(len, lines)) <= WIDTH == 88
    rows = diagnosis.band_table()
    for row in rows:
        (line,) = [line for line in lines if f"{row.band} ({row.first_pair}-{row.last_pair})" in line]
        assert digits(row, "pressure_rad") in line.split()
        assert span(row.wavelength_min_tokens, row.wavelength_max_tokens) in line.split()
    assert f"table() has all {diagnosis.table().shape[1]} columns" in str(diagnosis)


def test_the_widest_numbers_fit_and_unknown_columns_are_left_out():
    numbers = dict.fromkeys([name for name in BandRow.model_fields if name not in ("layers", "band")], LARGE)
    pairs = {"band": 31, "first_pair": 100, "last_pair": 127, "wavelength_max_tokens": math.inf}
    rows = [BandRow(**numbers | pairs | {"layers": layers}) for layers in ("layers 0-5", "layers 6-11")]
    assert max(map(len, band_lines(rows).splitlines())) <= WIDTH
    assert band_lines(rows).count("31 (100-127)") == 2
    assert "layers 6-11" in band_lines(rows)
    bare = BandRow(layers="all", band=0, first_pair=0, last_pair=3, **{NEAR: 6.28, "wavelength_max_tokens": 14.9})
    assert band_lines([bare]).splitlines() == ["   band  wavelength", "(pairs)      tokens", "0 (0-3)   6.28-14.9"]


def test_long_lines_are_broken_between_words():
    text = " ".join(["rounding"] * 40) + "\nshort"
    assert max(map(len, wrapped(text).splitlines())) <= WIDTH
    assert " ".join(wrapped(text).split()) == " ".join(text.split())
