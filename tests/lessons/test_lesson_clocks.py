"""Lesson 1 and 2 against walks round the unit circle in plain Python complex numbers."""

import cmath
import math

import pytest

from qroar_core.lessons.clocks import clocks
from qroar_core.lessons.heads import HEADS, Head
from qroar_core.lessons.window import window

SMALL = Head("small", 100.0, 16, 50)


def phasor(head, pair, position):
    """e^(j omega m) by multiplying the one-token step, position times."""
    step, z = cmath.exp(1j / head.theta ** (2 * pair / head.head_dim)), 1 + 0j
    for _ in range(position):
        z *= step
    return z


@pytest.mark.parametrize(("position", "distance", "stride"), [(0, 0, 1), (37, 5, 1), (120, 64, 16)])
def test_hands_stand_where_a_walk_of_the_phasor_ends(position, distance, stride):
    shown = clocks(SMALL, position, distance, stride, count=4, frames=3)
    assert shown.pairs == [0, 2, 5, 7]
    assert shown.positions == [position, position + stride, position + 2 * stride]
    for f, place in enumerate(shown.positions):
        for c, pair in enumerate(shown.pairs):
            for angles, token in ((shown.key, place), (shown.query, place + distance)):
                assert 0 <= angles[f][c] < 2 * math.pi
                assert cmath.exp(1j * angles[f][c]) == pytest.approx(phasor(SMALL, pair, token), abs=1e-11)


def test_the_angle_between_the_hands_is_the_same_in_every_frame_and_that_of_the_distance():
    shown = clocks(HEADS[0], 1234, 9, 7, count=6, frames=40)
    for key, query in zip(shown.key, shown.query):
        for c, pair in enumerate(shown.pairs):
            turned = cmath.exp(1j * (query[c] - key[c]))
            assert turned == pytest.approx(phasor(HEADS[0], pair, 9), abs=1e-10)
            assert cmath.exp(1j * shown.between[c]) == pytest.approx(turned, abs=1e-10)


def test_wavelengths_are_tokens_per_turn():
    shown = clocks(SMALL, 0, 1, 1, count=8)
    assert shown.wavelength == pytest.approx([2 * math.pi * 100 ** (2 * i / 16) for i in range(8)], rel=1e-14)


@pytest.mark.parametrize("length", [50, 120, 700])
def test_seen_and_new_parts_of_the_circle_by_walking_token_by_token(length):
    """Oracle: the angles of a fine walk, sorted into cells of the circle; a cell counts from its first visit on."""
    shown, cells, fine = window(SMALL, length), 200, 40
    assert (shown.original_context, shown.length) == (50, length)
    for pair in range(8):
        omega = 100.0 ** (-2 * pair / 16)
        assert shown.turns[pair] == pytest.approx(omega * 50 / (2 * math.pi), rel=1e-13)
        phases = [omega * t / fine % (2 * math.pi) for t in range(length * fine)]
        visited = [int(p / (2 * math.pi) * cells) for p in phases]
        native = set(visited[: 50 * fine])
        assert shown.seen[pair] == pytest.approx(len(native) / cells, abs=1.2e-2)
        assert shown.new[pair] == pytest.approx(len(set(visited) - native) / cells, abs=1.2e-2)
        outside = sum(cell not in native for cell in visited) / len(visited)
        assert shown.unseen[pair] == pytest.approx(outside, abs=1.2e-2)
