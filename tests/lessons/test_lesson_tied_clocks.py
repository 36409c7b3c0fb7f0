"""Lesson 8 against rotation matrices written out: cost of a tie by distance, and what mixing buys under int4."""

import numpy as np
import pytest
import torch

from qroar_core.lessons.tied_clocks import evening, tied_clocks
from qroar_core.maths.channel_groups import ChannelGroup
from tests.lessons import explicit
from tests.lessons.explicit import OMEGA, PAIRS

CASES = [(18, 1.0, 1024), (18, 0.0, 256), (20, 1.25, 512)]


def channels(first):
    return [first, first + 1, first + PAIRS, first + 1 + PAIRS]


@pytest.mark.parametrize(("first", "turn", "length"), CASES)
def test_logits_and_their_change_by_distance_are_those_of_explicit_matrices(first, turn, length):
    shown = tied_clocks(first, turn, length)
    omega = explicit.tied(first, first + 1, turn)
    assert shown.own == pytest.approx((OMEGA[first], OMEGA[first + 1]), rel=1e-6)
    assert shown.common == pytest.approx(omega[first], rel=1e-6)
    assert len(shown.logit) == len(shown.tied_logit) == len(shown.change) == length
    q, rows, k = explicit.head()
    q, k, at = q[rows < length], k[:length], channels(first)
    for d in (0, 1, 99, length - 1):
        own, tied = (
            explicit.rotation(d, w)[np.ix_(at, at)] * explicit.FACTOR for w in (OMEGA, omega)
        )  # the factor of k, which stays
        # q at distance d after k: (R q) . k
        assert shown.logit[d] == pytest.approx((own @ q.mean(0)[at]) @ k.mean(0)[at] / 8, abs=1e-5)
        assert shown.tied_logit[d] == pytest.approx((tied @ q.mean(0)[at]) @ k.mean(0)[at] / 8, abs=1e-5)
        change = (q[:, at] @ (tied - own).T) @ k[:, at].T / 8  # every query with every key
        assert shown.change[d] == pytest.approx(np.sqrt((change**2).mean()), rel=1e-4, abs=1e-6)
    assert shown.change[0] == 0
    assert shown.change[99] < shown.change[length - 1]


@pytest.mark.parametrize(("first", "turn", "length"), CASES)
def test_errors_are_those_of_rounding_by_hand(first, turn, length):
    shown = tied_clocks(first, turn, length)
    omega, at = explicit.tied(first, first + 1, turn), channels(first)
    q, rows, k = explicit.head()
    q, rows, k = q[rows < length], rows[rows < length], k[:length]
    own_q, own_k = explicit.rotated(q, rows, OMEGA), explicit.rotated(k, range(length), OMEGA)
    tied_q, tied_k = explicit.rotated(q, rows, omega), explicit.rotated(k, range(length), omega)
    exact = explicit.logits(own_q, rows, own_k)

    def error(queries, keys):
        return explicit.share(explicit.logits(queries, rows, keys), exact)

    assert shown.untied_int4 == pytest.approx(error(own_q, explicit.int4(own_k)), rel=1e-3)
    assert shown.tied == pytest.approx(error(tied_q, tied_k), rel=1e-3)
    assert shown.tied_int4 == pytest.approx(error(tied_q, explicit.int4(tied_k)), rel=1e-3)
    here = torch.from_numpy(tied_k[:, at])
    m = np.eye(64)
    group = ChannelGroup(first, first + 1, still=turn == 0)
    m[np.ix_(at, at)] = evening(group, here.mT @ here / length).numpy()
    mixed_q, mixed_k = tied_q @ np.linalg.inv(m), tied_k @ m.T
    assert shown.mixed_int4 == pytest.approx(error(mixed_q, explicit.int4(mixed_k)), rel=2e-3)
    assert shown.range_before == pytest.approx(np.sqrt((tied_k[:, at] ** 2).mean(0)), rel=1e-5)
    assert shown.range_after == pytest.approx([np.sqrt((tied_k[:, at] ** 2).mean())] * 4, rel=1e-5)
    assert shown.loudest == pytest.approx(np.isin(np.abs(own_k).argmax(1), at).mean(), abs=1e-12)
    assert shown.mixed_logit_change < 1e-12


@pytest.mark.parametrize("turn", [1.0, 0.0])
def test_the_mixing_is_orthonormal_commutes_with_the_turning_and_makes_channels_even(turn):
    drawn = torch.randn(50, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    k = drawn * torch.tensor([9.0, 1.0, 3.0, 0.5], dtype=torch.float64)
    covariance = (k.mT @ k / len(k)).numpy()
    m = evening(ChannelGroup(18, 19, still=turn == 0), torch.from_numpy(covariance)).numpy()
    np.testing.assert_allclose(m @ m.T, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(np.diag(m @ covariance @ m.T), np.full(4, np.trace(covariance) / 4), rtol=1e-12)
    c, s = np.cos(0.7), np.sin(0.7)
    turning = np.block([[c * np.eye(2), -s * np.eye(2)], [s * np.eye(2), c * np.eye(2)]])
    assert np.allclose(m @ turning, turning @ m, atol=1e-12) == (turn != 0)


def test_a_tie_pays_where_the_loud_channel_is_and_not_where_pairs_stand_still_or_are_quiet():
    """What the page's answer says of the captured head."""
    loud, still, quiet = tied_clocks(18, 1.0, 1024), tied_clocks(18, 0.0, 1024), tied_clocks(26, 1.0, 1024)
    assert loud.loudest > 0.7
    assert loud.mixed_int4 < 0.92 * loud.untied_int4
    assert still.mixed_int4 > 1.5 * still.untied_int4
    assert quiet.loudest == 0
    assert quiet.mixed_int4 == pytest.approx(quiet.untied_int4, rel=0.01)
    costs = [tied_clocks(18, 1.0, length).change[-1] for length in (128, 256, 512, 1024)]
    assert costs == sorted(costs)
