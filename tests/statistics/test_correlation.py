"""Rank correlation: closed forms by hand, what few points can claim, what a grid's cells may not."""

import math
import random

import pytest

from qroar_core.statistics.correlation import spearman, spearman_of_grid

Z95 = 1.959963984540054


def by_hand(x, y):
    """1 - 6 sum d^2 / (n (n^2 - 1)), without ties."""
    place = [{v: i for i, v in enumerate(sorted(side))} for side in (x, y)]
    n = len(x)
    return 1 - 6 * sum((place[0][a] - place[1][b]) ** 2 for a, b in zip(x, y)) / (n * (n * n - 1))


def test_rho_and_interval_are_the_closed_forms():
    x, y = [3.0, 1.0, 2.0, 5.0, 4.0, 9.0], [10.0, 30.0, 20.0, 60.0, 90.0, 70.0]
    found = spearman(x, y)
    rho = by_hand(x, y)
    reach = Z95 * math.sqrt(1.06 / 3)
    assert found.rho == pytest.approx(rho, abs=1e-12)
    assert found.low == pytest.approx(math.tanh(math.atanh(rho) - reach), abs=1e-9)
    assert found.high == pytest.approx(math.tanh(math.atanh(rho) + reach), abs=1e-9)
    assert found.points == 6
    assert spearman(x, y, confidence=0.8).low > found.low


def test_ties_take_their_mean_rank():
    found = spearman([1.0, 1.0, 2.0, 3.0], [5.0, 6.0, 7.0, 8.0])
    assert found.rho == pytest.approx(4.5 / math.sqrt(4.5 * 5))  # ranks 1.5 1.5 3 4 against 1 2 3 4


@pytest.mark.parametrize("sign", [1, -1])
def test_a_perfect_order_of_few_points_is_no_certainty(sign):
    x = [1.0, 2.0, 3.0, 4.0, 5.0]
    found = spearman(x, [sign * v for v in x])
    assert found.rho == pytest.approx(sign)
    near, far = sorted((sign * found.low, sign * found.high), reverse=True)
    assert near == pytest.approx(1.0)
    assert far == pytest.approx(math.tanh(math.atanh(0.9) - Z95 * math.sqrt(1.06 / 2)))  # 0.9: two neighbours swapped
    assert found.low <= found.rho <= found.high


def test_missing_pairs_are_left_out_and_what_cannot_be_ranked_is_none():
    x, y = [1.0, None, 2.0, 3.0, 4.0, 7.0], [2.0, 9.0, 1.0, None, 5.0, 6.0]
    assert spearman(x, y).points == 4
    assert spearman(x[:4], y[:4]) is None
    assert spearman([1.0] * 9, list(range(9))) is None
    with pytest.raises(ValueError, match="longer"):
        spearman([1.0], [1.0, 2.0])


def test_cells_of_a_column_are_no_independent_points():
    """x is the column's alone: 40 rows of the same five numbers are five points, not two hundred."""
    rng = random.Random(1)
    x, y = [[1.0, 2.0, 3.0, 4.0, 5.0]] * 40, [[2.0, 1.0, 4.0, 3.0, 2.5]] * 40
    y = [[v + 1e-3 * rng.random() for v in row] for row in y]
    found = spearman_of_grid(x, y)
    flat = spearman([v for row in x for v in row], [v for row in y for v in row])
    assert found.rho == pytest.approx(flat.rho)
    assert flat.low > 0.3  # which two hundred points would prove
    assert found.low < 0 < found.high
    assert found.points == 200


def test_a_clear_grid_has_a_clear_interval_and_missing_rows_do_not_count():
    rng = random.Random(0)
    x = [[layer + 10 * band + rng.random() for band in range(6)] for layer in range(8)]
    y = [[v + rng.random() for v in row] for row in x]
    found = spearman_of_grid([*x, [None] * 6], [*y, [None] * 6])
    assert found.rho == pytest.approx(by_hand([v for row in x for v in row], [v for row in y for v in row]))
    assert 0.9 < found.low < found.rho < found.high <= 1
    assert found.points == 48
    assert spearman_of_grid(x, y).rho == found.rho
    assert spearman_of_grid([*x, [None] * 6], [*y, [None] * 6]) == found  # the draws are seeded
    assert spearman_of_grid(x[:3], y[:3]) is None
