"""Lesson 8: two neighbouring pairs at one frequency move logits a little, and may then be mixed."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from qroar_core.interpolations.tie import Tie
from qroar_core.lessons.captured_head import CapturedHead, captured_head, frequencies, int4, logits, rotated, share
from qroar_core.lessons.heads import REMEMBERED
from qroar_core.lessons.result import TiedClocks
from qroar_core.maths.channel_groups import ChannelGroup, whole_head
from qroar_core.maths.rope import cos_sin, rotate
from qroar_core.transforms.baselines import spread_axes_evenly


@lru_cache(REMEMBERED)
def tied_clocks(first: int, turn: float, length: int) -> TiedClocks:
    """Pairs `first` and the next of the captured head, tied, over its first `length` tokens.

    Args:
        turn: their frequency as a multiple of the geometric mean of their own; 0: they stand still.
        length: 128..1024 tokens.
    """
    head, tie = captured_head().first(length), (Tie(first, first + 1, turn),)
    group = ChannelGroup(first, first + 1, still=turn == 0)
    d = head.k.shape[-1]
    at = group.channels(d, "half")
    own, common = frequencies()[0], frequencies(tie)[0]

    q, k = rotated(head, head.q, head.k, ())
    exact = logits(head, q, k)
    tied_q, tied_k = rotated(head, head.q, head.k, tie)
    tied = logits(head, tied_q, tied_k)
    here = tied_k[:, at].double()
    matrix = whole_head((group,), (evening(group, here.mT @ here / length),), d, d, "half")
    mixed_q, mixed_k = (tied_q.double() @ torch.linalg.inv(matrix)), tied_k.double() @ matrix.mT

    untied_by, tied_by = (_by_distance(head, at, x) for x in ((), tie))
    loudest = k.abs().argmax(-1)[:, None] == at
    return TiedClocks(
        first=first,
        turn=turn,
        length=length,
        own=(float(own[first]), float(own[first + 1])),
        common=float(common[first]),
        logit=_mean_logit(head, at, untied_by),
        tied_logit=_mean_logit(head, at, tied_by),
        change=_change(head, at, tied_by - untied_by),
        channels=[f"pair {pair}, {name}" for name in ("first", "second") for pair in (first, first + 1)],
        range_before=tied_k[:, at].double().square().mean(0).sqrt().tolist(),
        range_after=mixed_k[:, at].square().mean(0).sqrt().tolist(),
        untied_int4=float(share(logits(head, q, int4(k)), exact)),
        tied=float(share(tied, exact)),
        tied_int4=float(share(logits(head, tied_q, int4(tied_k)), exact)),
        mixed_int4=float(share(logits(head, mixed_q, int4(mixed_k)), exact)),
        loudest=float(loudest.any(-1).double().mean()),
        mixed_logit_change=float(
            (logits(head, mixed_q, mixed_k) - logits(head, tied_q.double(), tied_k.double())).abs().max()
            / exact.square().mean().sqrt()
        ),
    )


def evening(group: ChannelGroup, covariance: Tensor) -> Tensor:
    """An orthonormal map of two pairs that commutes with their turning and makes their four channels of K even.

    `spread_axes_evenly` makes pairs that turn even; a plane is then turned until its two channels are: that of each
    pair, and for pairs that stand still those of the two first and of the two second channels as well.

    Args:
        covariance: E[k k^T] of the group's channels after RoPE, (4, 4), float64.
    Returns:
        (4, 4), float64, as `ChannelGroup` writes it; all channels of M k have the same mean square.
    """
    found = spread_axes_evenly(group, covariance)
    for a, b in ((0, 2), (1, 3), *(((0, 1), (2, 3)) if group.still else ())):
        c = found @ covariance @ found.mT
        angle = 0.5 * torch.atan2(c[a, a] - c[b, b], 2 * c[a, b])
        turn = torch.eye(4, dtype=torch.float64)
        turn[a, a] = turn[b, b] = angle.cos()
        turn[b, a], turn[a, b] = angle.sin(), -angle.sin()
        found = turn @ found
    return found


def _by_distance(head: CapturedHead, at: Tensor, tie: tuple[Tie, ...]) -> Tensor:
    """R(distance) of the channels `at` as matrices, a(s)^2 included: q^T R k is their logit; (tokens, size, size)."""
    inv_freq, factor = frequencies(tie)
    cos, sin = cos_sin(inv_freq, torch.arange(len(head.k)), factor)
    unit = torch.eye(head.k.shape[-1], dtype=torch.float64)[:, None].expand(-1, len(cos), -1)  # (d, tokens, d)
    turned = rotate(unit[at], cos, sin, "half")[..., at] * factor  # (size, tokens, size): row of q, its turned channels
    return turned.transpose(0, 1)


def _mean_logit(head: CapturedHead, at: Tensor, turning: Tensor) -> list[float]:
    """Logit of the mean query and key of these channels, by distance."""
    q, k = (x.double().mean(0)[at] for x in (head.q, head.k))
    return (torch.einsum("i,tij,j->t", q, turning, k) * head.k.shape[-1] ** -0.5).tolist()


def _change(head: CapturedHead, at: Tensor, change: Tensor) -> list[float]:
    """RMS of q^T change k over all queries and keys at each distance; in second moments of q and k."""
    q, k = (x.double()[:, at] for x in (head.q, head.k))
    return (
        ((q.mT @ q / len(q) @ change @ (k.mT @ k / len(k))) * change)
        .sum((1, 2))
        .clamp_min(0)
        .sqrt()
        .mul(head.k.shape[-1] ** -0.5)
        .tolist()
    )
