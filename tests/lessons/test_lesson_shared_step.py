"""Lesson 6 against numpy with complex rotation: errors, the minimum over a dense grid, logits that do not change."""

import numpy as np
import pytest

from qroar_core.lessons.shared_step import BANDS, HEAD_DIM, THETA, drawn, shared_step

PAIRS = HEAD_DIM // 2
OMEGA = THETA ** (-np.arange(PAIRS) / PAIRS)


def turned(x, positions):
    """Half-paired channels as complex pairs, rotated; (tokens, pairs) complex."""
    z = x[:, :PAIRS] + 1j * x[:, PAIRS:]
    return z * np.exp(1j * positions[:, None] * OMEGA)


def by_hand(bits, loudness, log2_g):
    """(logits, noisy logits, k / step) under one g, in float64 numpy."""
    q, k = (t.numpy() for t in drawn(loudness))
    gain = np.where(np.arange(PAIRS) <= BANDS[0][1], 2.0**log2_g, 1.0)
    n = len(k)
    zk, zq = turned(k, np.arange(n)) / gain, turned(q, np.arange(n) + n) * gain
    top = 2 ** (bits - 1) - 1
    step = np.maximum(np.abs(zk.real), np.abs(zk.imag)).max(1, keepdims=True) / top
    hat = step * (np.round(zk.real / step) + 1j * np.round(zk.imag / step))
    return (zq @ zk.conj().T).real, (zq @ hat.conj().T).real, zk / step


def relative_error(bits, loudness, log2_g):
    plain, noisy, _ = by_hand(bits, loudness, log2_g)
    return np.sqrt(((noisy - plain) ** 2).mean() / (plain**2).mean())


@pytest.mark.parametrize(("bits", "loudness"), [(4, 8.0), (3, 2.0), (8, 16.0)])
def test_errors_and_their_minimum_on_a_dense_grid(bits, loudness):
    shown = shared_step(bits, loudness, 0.7)
    assert shown.grid[0] == -2
    assert shown.grid[-1] == 6
    assert np.diff(shown.grid) == pytest.approx(1 / 16)
    expected = [relative_error(bits, loudness, x) for x in shown.grid]
    np.testing.assert_allclose(shown.error, expected, rtol=1e-9)
    assert shown.best_log2_g == shown.grid[int(np.argmin(expected))]
    assert shown.best_error == pytest.approx(min(expected), rel=1e-9)
    assert shown.error_here == pytest.approx(relative_error(bits, loudness, 0.7), rel=1e-9)


def test_no_g_changes_an_unquantized_logit():
    shown = shared_step(4, 8.0, 6.0)
    assert 0 < shown.logit_change < 1e-12
    identity = by_hand(4, 8.0, 0.0)[0]
    for log2_g in (-2.0, 0.3, 6.0):
        np.testing.assert_allclose(by_hand(4, 8.0, log2_g)[0], identity, rtol=0, atol=1e-11)


@pytest.mark.parametrize("log2_g", [0.0, 2.25])
def test_points_and_levels_are_those_of_k_over_its_tokens_step(log2_g):
    shown = shared_step(4, 8.0, log2_g)
    scaled = by_hand(4, 8.0, log2_g)[2]
    assert shown.top == 7
    for points, levels, (first, last) in (
        (shown.loud, shown.loud_levels, BANDS[0]),
        (shown.quiet, shown.quiet_levels, BANDS[1]),
    ):
        z = scaled[:, first : last + 1].ravel()
        np.testing.assert_allclose(points, np.stack((z.real, z.imag), 1), atol=1e-10)
        assert levels == len(np.unique(np.round(np.concatenate((z.real, z.imag)))))


def test_the_parts_of_the_bands_add_up_where_they_are_drawn_independently():
    """The noises of the two bands are nearly uncorrelated: squares add up to the whole within 5 %."""
    shown = shared_step(4, 8.0, 0.0)
    whole = np.square(shown.loud_error) + np.square(shown.quiet_error)
    np.testing.assert_allclose(whole, np.square(shown.error), rtol=0.05)
    at_least, at_most = shown.grid.index(-2.0), shown.grid.index(6.0)
    assert shown.quiet_error[at_least] > shown.loud_error[at_least]
    assert shown.quiet_error[at_most] < shown.loud_error[at_most]


def test_only_the_loud_band_of_k_is_loud():
    _, plain = drawn(1.0)
    _, loud = drawn(8.0)
    ratio = (loud / plain).numpy()
    assert ratio[:, :4] == pytest.approx(8.0)
    assert ratio[:, 8:12] == pytest.approx(8.0)
    assert ratio[:, 4:8] == pytest.approx(1.0)
    assert ratio[:, 12:] == pytest.approx(1.0)
