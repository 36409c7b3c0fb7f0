"""Lesson 5 against a search for the nearest level, angle by angle."""

import math

import pytest

from qroar_core.lessons.turning import turning


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(("length", "other"), [(1.0, 0.0), (1.0, 2.0), (0.5, 7.0), (4.0, 3.5)])
def test_every_angle_goes_to_the_nearest_level_of_the_shared_step(bits, length, other):
    shown = turning(bits, length, other, 0.0)
    top = 2 ** (bits - 1) - 1
    for i in range(0, len(shown.angle), 7):
        assert shown.angle[i] == pytest.approx(2 * math.pi * i / len(shown.angle))
        x, y = length * math.cos(shown.angle[i]), length * math.sin(shown.angle[i])
        assert (shown.x[i], shown.y[i]) == pytest.approx((x, y), abs=1e-14)
        step = max(abs(x), abs(y), other) / top
        assert shown.step[i] == pytest.approx(step, rel=1e-12)
        levels = [code * step for code in range(-top, top + 1)]
        nearest = [min(abs(level - v) for level in levels) for v in (x, y)]
        got = [abs(shown.rounded_x[i] - x), abs(shown.rounded_y[i] - y)]
        assert got == pytest.approx(nearest, abs=1e-12)
        assert min(abs(level - shown.rounded_x[i]) for level in levels) < 1e-12
        assert shown.error[i] == pytest.approx(math.hypot(*nearest) / length, abs=1e-12)


def test_the_angle_looked_at_and_its_grid():
    shown = turning(3, 1.0, 1.5, 30.0)
    assert shown.angle[shown.at] == pytest.approx(math.radians(30))
    assert shown.levels == pytest.approx([-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5])
    assert turning(3, 1.0, 1.5, 360.0).at == 0


def test_a_loud_neighbour_leaves_the_pair_nothing():
    shown = turning(4, 1.0, 16.0, 0.0)  # step 16/7 > 2: every coordinate is under half of it
    assert shown.error == pytest.approx([1.0] * len(shown.error))
    assert {*shown.rounded_x, *shown.rounded_y} == {0.0}
