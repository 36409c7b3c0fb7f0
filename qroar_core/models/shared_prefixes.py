"""Many prompts read one behind the other, where what several of them begin with is read once.

Questions about one long text, and those behind the same examples, share their first tokens. The prompts are taken in
the order of their tokens, so that those with a common start are neighbours, and the cache goes back to the mark where
the next one departs (`models.cache_snapshot`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qroar_core.models.cache_snapshot import Mark, mark, rewind
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.stream import Stream

WORTH = 256  # tokens in common from which reading them once is worth a mark, and a pass of its own for each prompt
Tokens = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    mark: Mark
    hidden: Tensor | None  # of the last token read, (1, 1, hidden_size); None at the start


def common_start(one: Sequence[int], other: Sequence[int]) -> int:
    """How many first tokens two prompts share."""
    most = min(len(one), len(other))
    return next((i for i in range(most) if one[i] != other[i]), most)


def sharing(prompts: Sequence[Tokens]) -> set[int]:
    """Places of the prompts that share a start of `WORTH` tokens or more with another."""
    order, shared = _in_order(prompts)
    return {i for at, i in enumerate(order) if max(shared[at], shared[at + 1])}


def each_prompt(
    loaded: LoadedModel,
    stream: Stream,
    prompts: Sequence[Tokens],
    *,
    room: int,
    on_read: Callable[[int], None] = lambda tokens: None,
) -> Iterator[tuple[int, Tensor]]:
    """Read every prompt; gives its place in `prompts` and its last token's final hidden state, (1, 1, hidden_size).

    The stream then stands behind that prompt and may be fed more: it is taken back before the next one.

    Args:
        prompts: token ids, one at least in each.
        room: tokens of the longest prompt together with what is fed behind it.
        on_read: called with the number of tokens that were read since the last call; may raise to stop.
    """
    order, shared = _in_order(prompts)
    stream.begin(room=room)
    kept = [_Kept(mark(stream), None)]
    for at, i in enumerate(order):
        while kept[-1].mark.fed > shared[at]:
            kept.pop()
        rewind(stream, kept[-1].mark)
        hidden = kept[-1].hidden
        branches = _branches(shared, at, stream.fed)
        for stop in [*branches, len(prompts[i])]:
            for piece in torch.tensor([prompts[i][stream.fed : stop]]).split(stream.chunk, dim=1):
                if piece.shape[1]:
                    on_read(piece.shape[1])
                    hidden = stream.feed(piece.to(loaded.device)).hidden[:, -1:]
            if stop in branches and kept[-1].mark.fed < stop:
                kept.append(_Kept(mark(stream), hidden))
        assert hidden is not None  # every prompt has a token
        yield i, hidden


def _in_order(prompts: Sequence[Tokens]) -> tuple[list[int], list[int]]:
    """Places of the prompts by their tokens, and what each shares with the one before; one entry more, at the end."""
    order = sorted(range(len(prompts)), key=lambda i: prompts[i])
    starts = [common_start(prompts[a], prompts[b]) for a, b in zip(order, order[1:])]
    return order, [0, *(n if n >= WORTH else 0 for n in starts), 0]


def _branches(shared: list[int], at: int, start: int) -> list[int]:
    """Past `start`, where later prompts depart from the one at `at`, ascending."""
    found: list[int] = []
    least = None
    for n in shared[at + 1 :]:
        least = n if least is None else min(least, n)
        if least <= start:
            break
        if not found or found[-1] != least:
            found.append(least)
    return found[::-1]
