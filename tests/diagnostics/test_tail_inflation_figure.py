"""What the tails' pictures claim of their null and sample, each where it is true and where it is false."""

import pytest
import torch

from qroar_core.diagnostics.sample import Sample
from qroar_core.diagnostics.tail_inflation import figure as tails
from qroar_core.diagnostics.tail_inflation.measure import swaps
from qroar_core.diagnostics.tail_inflation.result import TailNull, null_rows, range_of
from qroar_core.diagnostics.tail_inflation.table import RANDOM_SIDES_CONTROL
from qroar_core.figures.picture import OLDER
from tests.helpers import planted

D = planted.diagnosis()  # K after RoPE: 1.0 and 1.5 in layer 0, 1.1 and 2.0 in layer 1, largest over KV heads
SAMPLE = Sample(tokens=16, windows=2, seed=3, error="the interval is a 95 % bootstrap over windows")


def with_null(largest, spread=1.3, windows=8):
    """The planted diagnosis with a null as wide as 1 / spread to spread in every cell."""
    cells = [[[spread] * 2] * 2] * 2
    null = TailNull(
        low=[[[1 / spread] * 2] * 2] * 2,
        high=cells,
        map_low=[[1 / spread] * 2] * 2,
        map_high=[[spread] * 2] * 2,
        largest=largest,
        control="long and short side of each window swapped, 4 ways",
    )
    tables = {which: table.model_copy(update={"null": null, "sample": SAMPLE}) for which, table in D.tails.items()}
    return D.model_copy(update={"tails": tables, "windows": windows})


def crosses(picture):
    (trace,) = (trace for trace in picture.figure.data if (trace.name or "").startswith("null"))
    return list(zip(trace.x, trace.y))


def test_the_largest_cell_is_held_against_the_largest_cell_with_sides_swapped():
    real = tails.overview(with_null([1.2, 1.4, 1.3, 1.1]))
    assert real.title.startswith("K after RoPE grows most with length: 2.00 × short context (layer 1, band 1), beyond")
    assert real.title.endswith("(1.40 ×)")
    chance = tails.overview(with_null([1.2, 2.0, 1.3, 1.1]))
    assert chance.title.startswith("No tail is inflated beyond chance: 2.00 × at most (layer 1, band 1), 2.00 × with")
    assert "null" not in tails.overview(D).title


def test_crosses_stand_on_the_cells_inside_the_null_and_on_no_others():
    assert crosses(tails.overview(with_null([1.0], spread=3.0))) != []
    picture = tails.overview(with_null([1.0], spread=1.3))
    points = picture.figure.data[1]
    expected = [
        (x, y)
        for x, y, (_, layer, band) in zip(points.x, points.y, points.customdata)
        if D.tail_inflation["post"]["k"][layer][band] <= 1.3
    ]
    assert crosses(picture) == expected
    assert len(expected) == 4 * 2  # 1.0 and 1.1, in each of four maps
    assert "null: 0.77 to 1.30 ×" in points.text[0]
    assert crosses(tails.overview(D)) == []


def test_a_cell_says_whether_it_lies_inside_the_null_and_draws_it_from_the_short_diamond():
    wide, narrow = (tails.survival(with_null([1.0], spread), ("k/post", 1, 1, 1)) for spread in (2.5, 1.3))
    assert wide.title.endswith("tail 2.00 × short context [1.70, 2.40]; inside the null 0.40 to 2.50")
    assert narrow.title.endswith("[1.70, 2.40]; outside the null 0.77 to 1.30")
    (band,) = narrow.figure.layout.shapes[:1]
    assert (band.x0, band.x1) == (pytest.approx(2.0 / 1.3), pytest.approx(2.0 * 1.3))
    assert list(narrow.table.query("context == 'null'")["value"]) == [band.x0, band.x1]


@pytest.mark.parametrize(("windows", "says"), [(5, True), (6, False)])
def test_few_windows_are_said_to_leave_nothing_outside(windows, says):
    d = with_null([1.0], windows=windows)
    for picture in (tails.overview(d), tails.survival(d, ("k/post", 1, 1, 1))):
        assert ("fewer than 6 windows no cell can lie outside" in picture.how_to_read) is says


@pytest.mark.parametrize("windows", [2, 3, 5, 6, 8])
def test_no_verdict_is_given_where_no_number_of_windows_could_give_another(windows):
    """The measured sides are one of 2^n swaps, so even the very largest is inside until the range leaves one out."""
    swaps = [1 + i / 2**windows for i in range(2**windows)]
    possible = max(swaps) > range_of(swaps)[1]
    assert possible is (windows >= 6)
    d = with_null([2.0] * 2**windows, spread=2.5, windows=windows)
    assert ("No tail is inflated beyond chance" in tails.overview(d).title) is possible
    assert (f"Too few windows to decide ({windows}): 2.00 × at most" in tails.overview(d).title) is not possible
    cell = tails.survival(d, ("k/post", 1, 1, 1)).title
    assert ("inside the null" in cell, "too few windows to distinguish it from the null" in cell) == (
        possible,
        not possible,
    )


@pytest.mark.parametrize("windows", [3, 4])
def test_unpaired_windows_leave_something_outside_from_four_on(windows):
    """Every half of 2n windows drawn 256 times: the largest way is outside the range once it is drawn rarely enough."""
    way = (swaps(windows, False, 0) * 2.0 ** torch.arange(2 * windows)).sum(1).tolist()
    assert (max(way) > range_of(way)[1]) is (windows >= 4)
    d = with_null([2.0] * 256, spread=2.5, windows=windows)
    dealt = {which: table.null.model_copy(update={"control": RANDOM_SIDES_CONTROL}) for which, table in d.tails.items()}
    tables = {which: table.model_copy(update={"null": dealt[which]}) for which, table in d.tails.items()}
    unpaired = d.model_copy(update={"tails": tables})
    title = tails.overview(unpaired).title
    assert title.startswith("No tail is inflated" if windows >= 4 else "Too few windows to decide (3)")
    assert title.endswith("2.00 × with windows assigned to sides at random")
    for picture in (tails.overview(unpaired), tails.survival(unpaired, ("k/post", 1, 1, 1))):
        said = [picture.title, picture.how_to_read, *(trace.name or "" for trace in picture.figure.data)]
        said += [shape.name or "" for shape in picture.figure.layout.shapes]
        assert not any("swap" in words for words in said)
        assert any("at random" in words or "assign windows" in words for words in said)


def test_what_native_means_is_said_where_it_is_in_the_table():
    said = "short under native RoPE, that is without any interpolation, the checkpoint's own included"
    natives = {which: table.model_copy(update={"native": table.ratio}) for which, table in D.tails.items()}
    assert said in tails.overview(D.model_copy(update={"tails": natives})).how_to_read
    without = {which: table.model_copy(update={"native": None}) for which, table in D.tails.items()}
    assert "native" not in tails.overview(D.model_copy(update={"tails": without})).how_to_read


def test_pictures_say_their_sample_or_that_they_are_old():
    for picture in (tails.overview(with_null([1.0])), tails.survival(with_null([1.0]), ("k/post", 1, 1, 1))):
        assert picture.sample == (
            "Counted on 16 tokens, 2 windows; the interval is a 95 % bootstrap over windows (seed 3)."
        )
    assert tails.overview(D).sample == OLDER
    assert "holds no null" in tails.overview(D).how_to_read


def test_rows_of_the_null_and_the_papers_names():
    rows = null_rows(with_null([1.0, 1.5, 1.25, 1.25]).tails)
    assert [row.quantity for row in rows] == [
        "rho_A of K after RoPE, largest cell",
        "rho_W of K before RoPE, largest cell",
        "rho_A of Q after RoPE, largest cell",
        "rho_W of Q before RoPE, largest cell",
    ]
    assert [(row.measured, row.null, row.low, row.high) for row in rows] == [(2.0, 1.25, 1.0, 1.5)] * 4
    assert null_rows(D.tails) == []
