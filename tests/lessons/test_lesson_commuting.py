"""Lesson 7 against rotation matrices written out: which transforms leave a logit alone, and what int4 makes of them."""

import importlib.util
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from qroar_core.bundled import ASSETS
from qroar_core.lessons.captured_head import FILE, captured_head, int4
from qroar_core.lessons.commuting import MOVES, commuting, every_move
from tests.lessons import explicit
from tests.lessons.explicit import HEAD_DIM, OMEGA, PAIRS

PAIR = 18
FREE = {"scale", "angle", "alike", "offset_still"}


def turn(degrees):
    a = np.radians(degrees)
    return np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])


def by_hand(kind, x, pair=PAIR):
    """(M, c, omega) of the whole head, each written down for itself."""
    m, c, omega = np.eye(HEAD_DIM), np.zeros(HEAD_DIM), OMEGA
    one = [pair, pair + PAIRS]
    if kind in ("scale", "axis"):
        m[pair, pair] = 2**-x
        m[pair + PAIRS, pair + PAIRS] = 2**-x if kind == "scale" else 1
    elif kind == "angle":
        m[np.ix_(one, one)] = turn(x)
    elif kind == "mirror":  # v -> 2 (v . u) u - v along the mirror u
        u = np.array([np.cos(np.radians(x)), np.sin(np.radians(x))])
        m[np.ix_(one, one)] = 2 * np.outer(u, u) - np.eye(2)
    elif kind in ("alike", "apart"):
        for first in (pair, pair + PAIRS):
            m[np.ix_([first, first + 1], [first, first + 1])] = turn(x)
        omega = explicit.tied(pair, pair + 1, 1.0) if kind == "alike" else OMEGA
    else:
        c[one] = -x * explicit.head()[2].mean(0)[one]
        omega = explicit.tied(pair, pair, 0.0) if kind == "offset_still" else OMEGA
    return m, c, omega


@pytest.mark.parametrize("kind", MOVES)
def test_the_logit_is_that_of_explicit_matrices_at_every_distance(kind):
    move, at = MOVES[kind], 300
    m, c, omega = by_hand(kind, move.start)
    shown = commuting(kind, move.start, PAIR, at)
    assert shown.pairs == [PAIR, PAIR + 1][: 2 if kind in ("alike", "apart") else 1]
    assert shown.inv_freq == pytest.approx([omega[i] for i in shown.pairs], rel=1e-6, abs=1e-12)
    here = [*shown.pairs, *(i + PAIRS for i in shown.pairs)]
    q, _, k = explicit.head()
    q, k = (np.where(np.isin(np.arange(HEAD_DIM), here), x.mean(0), 0) for x in (q, k))
    moved_q, moved_k = np.linalg.inv(m).T @ q, m @ k + c
    for d in (0, 1, 37, at, 1023):
        turned, first = explicit.rotation(d, omega), explicit.rotation(0, omega)
        assert shown.logit[d] == pytest.approx((turned @ q) @ (first @ k) / 8, abs=1e-6)
        assert shown.moved_logit[d] == pytest.approx((turned @ moved_q) @ (first @ moved_k) / 8, abs=1e-6)
    arrow = shown.arrows[-1]
    pair = [arrow.pair, arrow.pair + PAIRS]
    assert arrow.moved_query == pytest.approx((explicit.rotation(at, omega) @ moved_q)[pair], abs=1e-5)
    assert arrow.moved_key == pytest.approx(explicit.FACTOR * moved_k[pair], abs=1e-5)


@pytest.mark.parametrize("kind", MOVES)
def test_attention_stays_for_what_commutes_and_for_nothing_else(kind):
    """The rule, on matrices: M R(D) = R(D) M at every D; a constant off K must add the same at every distance."""
    move = MOVES[kind]
    m, c, omega = by_hand(kind, move.start)
    distances = (1, 100, 700)
    if move.offset:
        added = [explicit.rotation(d, omega).T @ c for d in distances]
        commutes = all(np.allclose(x, added[0], atol=1e-9) for x in added)
    else:
        commutes = all(np.allclose(m @ explicit.rotation(d, omega), explicit.rotation(d, omega) @ m) for d in distances)
    assert commutes == (kind in FREE)
    shown = commuting(kind, move.start, PAIR, 0)
    change = np.subtract(shown.moved_logit, shown.logit)
    change -= change.mean() if move.offset else 0
    assert shown.deviation == pytest.approx(np.abs(change).max(), abs=1e-12)
    assert (shown.deviation < 1e-12) if commutes else (shown.deviation > 0.1)
    assert max(shown.sweep.change) < 1e-6 if commutes else max(shown.sweep.change) > 0.02


@pytest.mark.parametrize("kind", MOVES)
def test_errors_of_int4_are_those_of_rounding_by_hand(kind):
    move = MOVES[kind]
    swept = commuting(kind, move.start, PAIR, 0).sweep
    assert swept.amounts == list(move.amounts)
    at = swept.amounts.index(move.start)
    m, c, omega = by_hand(kind, move.start)
    q, rows, k = explicit.head()
    moved_q, moved_k = q @ np.linalg.inv(m), k @ m.T + c
    exact = explicit.logits(explicit.rotated(q, rows, omega), rows, plain := explicit.rotated(k, range(len(k)), omega))
    turned_q, turned_k = explicit.rotated(moved_q, rows, omega), explicit.rotated(moved_k, range(len(k)), omega)
    rounded = explicit.int4(turned_k)

    assert swept.change[at] == pytest.approx(explicit.share(explicit.logits(turned_q, rows, turned_k), exact), abs=1e-6)
    assert swept.error[at] == pytest.approx(explicit.share(explicit.logits(turned_q, rows, rounded), exact), rel=1e-3)
    plain_q = explicit.rotated(q, rows, omega)
    plain_error = explicit.share(explicit.logits(plain_q, rows, explicit.int4(plain)), exact)
    assert swept.plain_error == pytest.approx(plain_error, rel=1e-3)
    backwards = explicit.rotated(rounded - turned_k, -np.arange(len(k)), omega) / explicit.FACTOR**2
    undone = backwards @ np.linalg.inv(m).T
    assert swept.key_error[at] == pytest.approx(np.sqrt((undone**2).mean() / (k**2).mean()), rel=1e-3)
    assert swept.plain_key_error == pytest.approx(explicit.share(explicit.int4(plain), plain), rel=1e-3)
    assert swept.error[swept.best] == min(swept.error)


def test_every_move_is_there_at_the_amount_it_starts_at():
    shown = every_move(PAIR)
    assert [one.label for one in shown] == [move.label for move in MOVES.values()]
    assert [one.sweep.amounts[one.at] for one in shown] == [move.start for move in MOVES.values()]


def test_int4_is_the_formula():
    k = captured_head().k[:50]
    np.testing.assert_allclose(int4(k).numpy(), explicit.int4(k.double().numpy()), atol=1e-5)


def test_the_wheel_carries_the_head_where_the_lesson_looks_for_it():
    root = Path(__file__).parents[2]
    carried = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    place = carried["force-include"][str(FILE.relative_to(root))]
    assert Path(place).relative_to(Path(carried["force-include"]["app.py"]).parent) == FILE.relative_to(root)


@pytest.mark.slow
def test_the_head_that_comes_with_the_dashboard_is_the_demo_models(demo):
    file = ASSETS / "learn" / "build.py"
    spec = importlib.util.spec_from_file_location("learn_build", file)
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    found = build.head_of(demo)
    q, rows, k = explicit.head()
    assert found["rows"].tolist() * 2 == rows.tolist()
    torch.testing.assert_close(found["q"].double().flatten(0, 1), torch.from_numpy(q), rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(found["k"].double(), torch.from_numpy(k), rtol=2e-3, atol=2e-3)
