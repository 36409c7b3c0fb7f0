"""Pairs drawn under a distance law, against every (m, n) counted one by one in Python."""

import math

import pytest
import torch

from qroar_core.interpolations.pressure import mean_distance
from qroar_core.maths.distances import drawn_pairs

CASES = [("causal", None), ("causal", 9), ("uniform", None), ("uniform", 9), ("causal", 150), ("uniform", 150)]


def masses(length, law, window):
    """Mass of each (m, n), by the definition of the law."""
    seen = [(m, n) for m in range(length) for n in range(m + 1) if window is None or m - n < window]
    at = {}
    for m, n in seen:
        at[m - n] = at.get(m - n, 0) + 1
    return {(m, n): 1 / len(seen) if law == "causal" else 1 / (len(at) * at[m - n]) for m, n in seen}


def value(m, n):
    """Of a pair: uneven in the distance and in the row."""
    return abs(math.sin(1.7 * m * n + 0.3 * n)) * (m - n) ** 0.7 + (m > n) * math.cos(m / 40) ** 2


def by_row(drawn):
    at = [[value(int(m), int(n)) for n in keys] for m, keys in zip(drawn.rows, drawn.keys, strict=True)]
    return (torch.tensor(at, dtype=torch.float64) * drawn.key_weight).sum(1)


@pytest.mark.parametrize(("law", "window"), CASES)
def test_a_short_context_is_counted_whole(law, window):
    truth = sum(mass * value(m, n) for (m, n), mass in masses(60, law, window).items())
    drawn = drawn_pairs(60, law, window, seed=0)
    assert drawn.whole
    assert float(drawn.mean(by_row(drawn))) == pytest.approx(truth, rel=1e-12)
    assert float(drawn.error(by_row(drawn))) == 0


@pytest.mark.parametrize(("law", "window"), CASES)
def test_a_sample_of_a_long_context_is_under_the_law_within_its_standard_error(law, window):
    """Over 60 draws of 24 rows and 8 keys: unbiased, and the error shown is no less than the error made."""
    truth = sum(mass * value(m, n) for (m, n), mass in masses(300, law, window).items())
    found, errors = [], []
    for seed in range(60):
        drawn = drawn_pairs(300, law, window, seed, rows=24, keys=8)
        assert not drawn.whole
        assert bool((drawn.keys >= 0).all())
        assert bool((drawn.keys <= drawn.rows[:, None]).all())
        assert window is None or bool(((drawn.rows[:, None] - drawn.keys)[drawn.key_weight > 0] < window).all())
        assert drawn.row_weight.sum() == pytest.approx(1)
        assert drawn.key_weight.sum(1).tolist() == pytest.approx([1] * 24)
        found.append(float(drawn.mean(by_row(drawn))))
        errors.append(float(drawn.error(by_row(drawn))))
    made = math.sqrt(sum((x - truth) ** 2 for x in found) / len(found))
    shown = math.sqrt(sum(e * e for e in errors) / len(errors))
    assert abs(sum(found) / len(found) - truth) < 3 * made / math.sqrt(len(found))
    assert made < 1.1 * shown
    assert shown < 0.2 * truth


@pytest.mark.parametrize(("law", "window"), CASES)
def test_the_mean_distance_of_the_pairs_is_the_closed_form(law, window):
    drawn = drawn_pairs(100, law, window, seed=0)
    distance = (drawn.rows[:, None] - drawn.keys).double()
    assert float(drawn.mean((distance * drawn.key_weight).sum(1))) == pytest.approx(
        mean_distance(100, law, window), rel=1e-12
    )


def test_the_draw_follows_the_seed():
    one, again, other = (drawn_pairs(5000, "causal", None, seed) for seed in (1, 1, 2))
    assert torch.equal(one.keys, again.keys)
    assert not torch.equal(one.rows, other.rows)
