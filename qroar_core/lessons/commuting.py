"""Lesson 7: a transform of a pair leaves every logit as it is only where it commutes with the pair's turning."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from qroar_core.interpolations.tie import Tie
from qroar_core.lessons.captured_head import captured_head, frequencies, int4, logits, rotated, share
from qroar_core.lessons.heads import REMEMBERED
from qroar_core.lessons.result import Arrows, Commuting, Sweep
from qroar_core.maths.channel_groups import ChannelGroup, whole_head
from qroar_core.maths.rope import cos_sin, rotate, unrotate

FIRST, LAST, LOUDEST = 8, 30, 18  # pairs offered: faster ones turn too often to draw; the loudest of the head
OCTAVES = tuple(x / 2 for x in range(-4, 7))
QUARTER_TURN = tuple(7.5 * x for x in range(13))
HALF_TURN = tuple(15.0 * x for x in range(12))
SHARES = tuple(x / 4 for x in range(7))


@dataclass(frozen=True, slots=True)
class Move:
    """One kind of transform: k -> M k + c, q -> M^-T q, before RoPE.

    Args:
        label: as the menu calls it. knob: what its amount is. amounts: what can be chosen. start: chosen first.
        matrix: amount -> M on the channels of its group. pairs: how many it acts on.
        turn: of a tie of its pairs; None: they turn as they do. offset: c is minus the amount times K's mean.
    """

    label: str
    knob: str
    amounts: tuple[float, ...]
    start: float
    matrix: Callable[[float], Tensor]
    pairs: int = 1
    turn: float | None = None  # of Tie; None: not tied
    offset: bool = False


def _scaled(x: float, y: float) -> Tensor:
    return torch.diag(torch.tensor([2.0**-x, 2.0**-y], dtype=torch.float64))


def _turned(degrees: float) -> Tensor:
    a = math.radians(degrees)
    return torch.tensor([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]], dtype=torch.float64)


def _mirrored(degrees: float) -> Tensor:
    return _turned(2 * degrees) @ torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64))


def _mixed(degrees: float) -> Tensor:
    """Both coordinates alike: a real rotation of two complex numbers into each other."""
    return torch.block_diag(_turned(degrees), _turned(degrees))


def _unmoved(_: float) -> Tensor:
    return torch.eye(2, dtype=torch.float64)


MIXING = "Angle of the mixing, degrees"
MEAN = "Share of K's mean taken off"
MOVES = {
    "scale": Move("Scale the pair", "log2 g (k / g, q · g)", OCTAVES, 1.0, lambda x: _scaled(x, x)),
    "angle": Move("Turn the pair by an angle", "Angle, degrees", QUARTER_TURN, 45.0, _turned),
    "axis": Move("Scale one of its axes", "log2 g (k₁ / g, q₁ · g)", OCTAVES, 1.0, lambda x: _scaled(x, 0)),
    "mirror": Move("Swap its axes, or mirror it", "Mirror, degrees (45 swaps)", HALF_TURN, 45.0, _mirrored),
    "alike": Move("Mix two pairs of one frequency", MIXING, QUARTER_TURN, 45.0, _mixed, 2, 1.0),
    "apart": Move("Mix two pairs of two frequencies", MIXING, QUARTER_TURN, 45.0, _mixed, 2),
    "offset_still": Move("Take a constant off K, still pair", MEAN, SHARES, 1.0, _unmoved, 1, 0.0, True),
    "offset": Move("Take a constant off K, turning pair", MEAN, SHARES, 1.0, _unmoved, 1, None, True),
}


@lru_cache(REMEMBERED * len(MOVES))
def commuting(kind: str, amount: float, pair: int, distance: int) -> Commuting:
    """One transform of a captured head's `pair` (and the next, where it mixes two), and what int4 K makes of it.

    Args:
        kind: of MOVES. amount: one of its amounts. pair: FIRST..LAST. distance: tokens from key to query that the
            arrows are drawn at, 0..1023.
    """
    move = MOVES[kind]
    q, k = (x.double().mean(0) for x in (captured_head().q, captured_head().k))
    group, tie = _group(move, pair)
    at = group.channels(len(q), "half")
    alone = torch.zeros(2, len(q), dtype=torch.float64)
    alone[0, at], alone[1, at] = q[at], k[at]
    matrix, offset = _whole(move, pair, [amount], k)
    moved = alone[0] @ torch.linalg.inv(matrix[0]), alone[1] @ matrix[0].mT + offset[0]
    before, after = _by_distance(alone[0], alone[1], tie), _by_distance(moved[0], moved[1], tie)
    change = (after[0] @ after[1] - before[0] @ before[1]) * len(q) ** -0.5
    same = (
        change.mean() if move.offset else 0.0
    )  # c moves all keys of a row at that distance by q . c, whatever they are
    return Commuting(
        label=move.label,
        knob=move.knob,
        offset=move.offset,
        inv_freq=frequencies(tie)[0][group.first : group.last + 1].tolist(),
        at=move.amounts.index(amount),
        pairs=list(range(group.first, group.last + 1)),
        distance=distance,
        arrows=[_arrows(i, distance, before, after) for i in range(group.first, group.last + 1)],
        logit=(before[0] @ before[1] * len(q) ** -0.5).tolist(),
        moved_logit=(after[0] @ after[1] * len(q) ** -0.5).tolist(),
        deviation=float((change - same).abs().max()),
        sweep=sweep(kind, pair),
    )


def every_move(pair: int) -> list[Commuting]:
    """All transforms of one pair at the amounts that they start at."""
    return [commuting(kind, move.start, pair, 0) for kind, move in MOVES.items()]


@lru_cache(REMEMBERED * len(MOVES))
def sweep(kind: str, pair: int) -> Sweep:
    """Errors of the captured head's logits by every amount of one transform of one pair."""
    move, head = MOVES[kind], captured_head()
    _, tie = _group(move, pair)
    matrix, offset = (x.float() for x in _whole(move, pair, move.amounts, head.k.double().mean(0)))
    q, k = head.q @ torch.linalg.inv(matrix), head.k @ matrix.mT + offset[:, None]
    q, k = rotated(head, q, k, tie)  # (amounts, ...)
    plain_q, plain_k = rotated(head, head.q, head.k, tie)
    exact, rounded = logits(head, plain_q, plain_k), int4(k)
    inv_freq, factor = frequencies(tie)
    cos, sin = cos_sin(inv_freq, torch.arange(len(head.k)), factor)
    undone = unrotate(rounded - k, cos.float(), sin.float(), "half") @ torch.linalg.inv(matrix).mT
    plain = int4(plain_k)
    return Sweep(
        amounts=list(move.amounts),
        change=share(logits(head, q, k), exact).tolist(),
        error=share(logits(head, q, rounded), exact).tolist(),
        key_error=(undone.square().mean((1, 2)) / head.k.square().mean()).sqrt().tolist(),
        plain_error=float(share(logits(head, plain_q, plain), exact)),
        plain_key_error=float(share(plain, plain_k)),
    )


def _group(move: Move, pair: int) -> tuple[ChannelGroup, tuple[Tie, ...]]:
    """The pairs that a transform acts on, and how they are tied."""
    last = pair + move.pairs - 1
    tie = () if move.turn is None else (Tie(pair, last, move.turn),)
    return ChannelGroup(pair, last, still=move.turn == 0), tie


def _whole(move: Move, pair: int, amounts: list[float] | tuple[float, ...], mean: Tensor) -> tuple[Tensor, Tensor]:
    """M (amounts, head_dim, head_dim) and c (amounts, head_dim) of the whole head; `mean` of K, before RoPE."""
    group, _ = _group(move, pair)
    d = len(mean)
    matrix = whole_head((group,), (torch.stack([move.matrix(x) for x in amounts]),), d, d, "half")
    offset, at = torch.zeros(len(amounts), d, dtype=torch.float64), group.channels(d, "half")
    if move.offset:
        offset[:, at] = -torch.tensor(amounts, dtype=torch.float64)[:, None] * mean[at]
    return matrix, offset


def _by_distance(q: Tensor, k: Tensor, tie: tuple[Tie, ...]) -> tuple[Tensor, Tensor]:
    """q at positions 0, 1, ... (tokens, head_dim) and k at position 0 (head_dim,), after RoPE."""
    inv_freq, factor = frequencies(tie)
    cos, sin = cos_sin(inv_freq, torch.arange(len(captured_head().k)), factor)
    turned = rotate(q.expand(len(cos), -1), cos, sin, "half")
    return turned, rotate(k[None], cos[:1], sin[:1], "half")[0]


def _arrows(pair: int, distance: int, before: tuple[Tensor, Tensor], after: tuple[Tensor, Tensor]) -> Arrows:
    at = ChannelGroup(pair, pair).channels(len(before[1]), "half")
    q, k, moved_q, moved_k = (
        (float(x[at[0]]), float(x[at[1]])) for x in (before[0][distance], before[1], after[0][distance], after[1])
    )
    return Arrows(pair, q, k, moved_q, moved_k)
