"""Shares of trials against closed forms, numbers of the literature and coin flips."""

import math

import pytest

from qroar_core.statistics.proportions import mcnemar, wilson


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (5, 5), (3, 20), (47, 50)])
def test_wilsons_interval_is_its_closed_form(hits, n):
    z, p = 1.959963984540054, hits / n
    middle = p + z * z / (2 * n)
    reach = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = wilson(hits, n)
    assert low == pytest.approx((middle - reach) / (1 + z * z / n), abs=1e-12)
    assert high == pytest.approx((middle + reach) / (1 + z * z / n), abs=1e-12)
    assert wilson(0, 0) is None


def test_wilson_numbers_of_the_literature():
    """Agresti and Coull 1998, and the rule of z^2/(n + z^2) for no hit."""
    assert wilson(0, 10)[1] == pytest.approx(3.8414588 / 13.8414588, abs=1e-6)
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)  # Newcombe 1998, table I
    assert wilson(8, 10, 0.9)[0] > wilson(8, 10, 0.95)[0]


@pytest.mark.parametrize(("gained", "lost", "p"), [(0, 0, 1.0), (5, 0, 2 / 32), (1, 1, 1.0), (6, 1, 16 / 128)])
def test_mcnemar_counts_coin_flips(gained, lost, p):
    assert mcnemar(gained, lost) == pytest.approx(p)
    assert mcnemar(lost, gained) == pytest.approx(p)
