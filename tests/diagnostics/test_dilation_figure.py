"""What pictures of range by position claim of their null and sample, each where it is true and where it is false."""

import pytest

from qroar_core.diagnostics.dilation import figure as dilation
from qroar_core.diagnostics.dilation.result import DilationNull
from qroar_core.diagnostics.sample import Sample
from qroar_core.figures.picture import OLDER
from tests.helpers import planted

D = planted.diagnosis()  # absmax of layer 1: 1.5 and 2.5 in band 0, 3.5 and nothing in band 1; 1.25 bits lost at most


def with_null(low, high, lost, draws=1, by_band=()):
    """Every draw loses `lost` bits, a little more or less; by band as in layer 1's `by_band`."""
    moved = [1 + 0.01 * (i % 3 - 1) for i in range(draws)]
    null = DilationNull(
        absmax_low=[[low] * 2] * 2,
        absmax_high=[[high] * 2] * 2,
        largest=[[0.1, lost * by] for by in moved],
        lost=[[[0.1] * 2, [b * by for b in by_band]] for by in moved] if by_band else [],
    )
    seen = D.dilation.model_copy(update={"null": null, "sample": Sample(tokens=64, seed=0)})
    return D.model_copy(update={"dilation": seen})


def title(*given, **named):
    """What the title of layer 1 says, where the bands lose up to 0.5 and 1.25 bits."""
    seen = with_null(1.0, 2.0, *given, **named)
    assert [max(v for v in row if v is not None) for row in seen.dilation.bits_lost[1]] == [0.5, 1.25]
    return dilation.by_position(seen, 1).title.partition("(layer 1, ")[2]


def test_the_title_holds_the_bits_lost_against_random_bins():
    assert title(0.5, 19) == "up to 1.25 bits lost, 0.50 with random bins)"  # a file without bands
    assert title(1.25, 19) == "no more bits lost than by chance: up to 1.25, 1.25 with random bins)"
    assert dilation.by_position(D, 1).title.endswith("(layer 1, up to 1.25 bits lost)")


def test_each_band_is_held_against_its_own_null():
    """Band 1 loses most bits, as it does by chance; band 0 loses fewer, and by chance next to none."""
    assert title(1.25, 19, by_band=(0.1, 1.25)) == "band 0 loses up to 0.50 bits, 0.10 with random bins)"
    quiet = title(1.25, 19, by_band=(0.5, 1.25))
    assert quiet == "no more bits lost than by chance: up to 1.25, 1.25 with random bins)"


@pytest.mark.parametrize(("draws", "said"), [(1, "1 draw of"), (18, "18 draws of")])
def test_the_title_says_that_few_draws_cannot_tell(draws, said):
    for lost in (0.5, 2.0):
        assert title(lost, draws).endswith(f" with random bins: {said} the null cannot decide)")
    assert "The title reports" not in dilation.by_position(with_null(1.0, 2.0, 0.5, draws), 1).how_to_read
    told = dilation.by_position(with_null(1.0, 2.0, 0.5, 19), 1).how_to_read
    assert told.endswith("exceeds every band's in 95% of 19 draws; at most 5% of titles do by chance.")


@pytest.mark.parametrize(("low", "high", "inside"), [(1.5, 2.5, [(0, 0), (1, 0)]), (2.6, 9.0, [(0, 1)]), (9, 10, [])])
def test_crosses_stand_on_the_cells_inside_the_null(low, high, inside):
    """(bin, band); an empty bin has none."""
    picture = dilation.by_position(with_null(low, high, 0.5), 1)
    cross = picture.figure.data[1]
    assert cross.name.startswith("null: ")
    assert list(zip(cross.x, cross.y)) == [((bin_ + 0.5) / 2, band) for bin_, band in inside]


def test_a_band_counts_its_bins_outside_the_null_and_draws_it():
    loud = dilation.of_band(with_null(1.6, 2.4, 0.5, draws=2), 1, 0)
    found = "2 of 2 position bins lie outside the null, 1 of them below it (0.8 by chance)"
    assert loud.title == f"{found} (layer 1, band 0)"
    above = dilation.of_band(with_null(1.0, 1.1, 0.5, draws=2), 1, 0).title
    assert above.startswith("2 of 2 position bins lie outside the null (0.8 by chance)")
    assert "By chance 0.8 of 2 bins of a band lie outside it." in loud.how_to_read
    band, line = loud.figure.data
    assert (band.name, set(band.y)) == ("null: tokens assigned to bins at random", {1.6, 2.4})
    assert (list(line.x), list(line.y)) == ([15.5, 47.5], [1.5, 2.5])
    quiet = dilation.of_band(with_null(1.5, 2.5, 0.5), 1, 0)
    assert quiet.title == "No position bin lies outside the null (layer 1, band 0)"
    assert list(quiet.table["outside_null"]) == [False, False]
    assert dilation.of_band(with_null(3.6, 9.0, 0.5), 1, 1).title.startswith("1 of 2")  # the empty bin is not counted


@pytest.mark.parametrize(("bound", "said"), [(2**-6, "within 1.6% of their value"), (0.002, "within 0.2% of")])
def test_how_far_off_quantiles_may_be_is_said(bound, said):
    seen = D.dilation.model_copy(update={"quantile_bound": bound})
    picture = dilation.by_position(D.model_copy(update={"dilation": seen}), 1)
    assert said in picture.how_to_read
    assert set(picture.table["quantile_relative_bound"]) == {bound}


def test_pictures_say_their_sample_or_that_they_are_old():
    for draw in (lambda d: dilation.by_position(d, 1), lambda d: dilation.of_band(d, 1, 0)):
        assert draw(with_null(1.0, 2.0, 0.5)).sample == "Counted on 64 tokens (seed 0)."
        assert "tokens are assigned to them at random" in draw(with_null(1.0, 2.0, 0.5)).how_to_read
        assert draw(D).sample == OLDER
        assert "holds no null" in draw(D).how_to_read
