"""A yes where nothing is there comes once in twenty, however often the null is drawn; a planted effect is found."""

import numpy as np
import pytest

from qroar_core.statistics.chance import ENOUGH, furthest_out, stands_out, too_few

WIDTHS = np.array([1.0, 0.01, 30.0, 1.0])  # of the nulls of four numbers


def yes(draws, times, planted=(0, 0, 0, 0), seed=0):
    draw = np.random.default_rng(seed)
    found = [
        stands_out(
            [*(draw.gumbel(size=4) * WIDTHS + np.array(planted) * WIDTHS)],
            (draw.gumbel(size=(draws, 4)) * WIDTHS).tolist(),
        )
        for _ in range(times)
    ]
    assert None not in found
    return sum(found) / times


@pytest.mark.parametrize("draws", [19, 20, 40, 99])
def test_nothing_stands_out_once_in_twenty_whatever_the_draws(draws):
    """p is 1/20, 1/21, 2/41 and 5/100 exactly."""
    times = 1500
    wanted = {19: 1 / 20, 20: 1 / 21, 40: 2 / 41, 99: 5 / 100}[draws]
    assert yes(draws, times) == pytest.approx(wanted, abs=3.5 * (wanted * (1 - wanted) / times) ** 0.5)


@pytest.mark.parametrize("at", range(4))
def test_what_is_far_out_of_a_narrow_null_is_found_beside_a_wide_one(at):
    planted = [0.0] * 4
    planted[at] = 25.0  # standard deviations: 0.25 in number 1, where number 2 goes to 60 by chance
    assert yes(19, 200, planted) > 0.97
    draw = np.random.default_rng(1)
    measured = draw.gumbel(size=4) * WIDTHS + np.array(planted) * WIDTHS
    assert furthest_out([*measured], (draw.gumbel(size=(40, 4)) * WIDTHS).tolist()) == at


def test_too_few_draws_say_neither_yes_nor_no():
    assert stands_out([9.0], [[0.0]] * (ENOUGH - 1)) is None
    assert stands_out([9.0], [[0.0]] * ENOUGH) is True
    assert stands_out([9.0], [[0.0]] * (ENOUGH - 1) + [[9.0]]) is False  # as far is far enough
    assert (too_few(1), too_few(8)) == ("1 draw of the null cannot decide", "8 draws of the null cannot decide")


def test_what_is_unknown_is_left_out_and_what_never_varies_stands_nowhere():
    draws = [[0.1 * i, None, 1.0] for i in range(ENOUGH)]
    assert stands_out([5.0, 7.0, 1.0], draws) is True
    assert furthest_out([5.0, 7.0, 1.0], draws) == 0
    assert stands_out([None, 7.0, None], draws) is None
    assert stands_out([0.5, 7.0, 1.0], draws) is False
