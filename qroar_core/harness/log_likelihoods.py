"""ln p of continuations behind contexts under a condition, through the stream and its quantized cache.

Requests are read several at a time, padded behind their ends, where nothing that counts looks: a token sees those
before it only, and a block of the cache that holds padding is rounded when no token of that request is left to read
it. Contexts that share a long start are read one behind the other instead, the start once (`models.shared_prefixes`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qroar_core.models.condition import Condition
from qroar_core.models.finite import require_finite
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.score import log_prob_and_top1
from qroar_core.models.shared_prefixes import Tokens, each_prompt, sharing
from qroar_core.models.stream import Stream, open_stream
from qroar_core.models.window_losses import BATCH_TOKENS


@dataclass(frozen=True, slots=True)
class Request:
    """Token ids of a continuation and of what stands before it, one at least in each."""

    context: Tokens
    continuation: Tokens

    @property
    def read(self) -> Tokens:
        """What the model reads: everything but the last token, which is only predicted."""
        return (self.context + self.continuation)[:-1]


Answer = tuple[float, bool]  # sum of ln p, nats, and whether each token of the continuation is the most probable one


def log_likelihoods(
    loaded: LoadedModel,
    condition: Condition,
    requests: Sequence[Request],
    length: int,
    *,
    batch: int | None = None,
    chunk: int = 512,
    on_read: Callable[[int], None] = lambda tokens: None,
) -> list[Answer]:
    """ln p of every continuation, and whether greedy decoding would choose it, in the order of the requests.

    Args:
        length: tokens the stream is opened for, at least those that any request reads.
        batch: requests read at once; None: as many as have 2,048 tokens together.
        on_read: called with the number of tokens that are read next; may raise to stop.
    Raises:
        NonFinite: an activation or a log-likelihood that is no number.
    """
    if not requests:
        return []
    apart = sharing([one.context for one in requests])
    alone = sorted(set(range(len(requests))) - apart, key=lambda i: -len(requests[i].read))
    groups = list(_groups([(i, len(requests[i].read)) for i in alone], batch))
    largest = max((len(group) * len(requests[group[0]].read) for group in groups), default=length)
    answers: dict[int, Answer] = {}
    with open_stream(loaded, condition, length, chunk=chunk, batch=max(1, -(-largest // length))) as stream:
        for group in groups:
            answers |= zip(group, _side_by_side(loaded, stream, [requests[i] for i in group], on_read))
        if apart:
            places = sorted(apart)
            found = _one_by_one(loaded, stream, [requests[i] for i in places], on_read)
            answers |= {places[i]: answer for i, answer in found}
    ordered = [answers[i] for i in range(len(requests))]
    require_finite(torch.tensor([[value for value, _ in ordered]]), "a log-likelihood", condition, loaded.dtype)
    return ordered


def _groups(longest_first: Sequence[tuple[int, int]], batch: int | None) -> Iterator[list[int]]:
    """Places of requests that are read at once, from (place, tokens), the longest first."""
    rest = list(longest_first)
    while rest:
        count = batch or max(1, BATCH_TOKENS // rest[0][1])
        yield [i for i, _ in rest[:count]]
        rest = rest[count:]


def _side_by_side(
    loaded: LoadedModel, stream: Stream, rows: Sequence[Request], on_read: Callable[[int], None]
) -> list[Answer]:
    """One pass over several requests, the first of them the longest."""
    longest = len(rows[0].read)
    ids = torch.zeros((len(rows), longest), dtype=torch.int64)
    targets = torch.full_like(ids, -1)
    for at, one in enumerate(rows):
        ids[at, : len(one.read)] = torch.tensor(one.read)
        targets[at, len(one.context) - 1 : len(one.read)] = torch.tensor(one.continuation)
    total = torch.zeros(len(rows), dtype=torch.float64)
    greedy = torch.ones(len(rows), dtype=torch.bool)
    stream.begin(len(rows), room=longest)
    for piece, wanted in zip(ids.split(stream.chunk, dim=1), targets.split(stream.chunk, dim=1)):
        on_read(piece.numel())
        hidden = stream.feed(piece.to(loaded.device)).hidden
        here = wanted >= 0
        if here.any():
            _add(loaded, hidden[here.to(hidden.device)], wanted[here], here.nonzero()[:, 0], total, greedy)
    stream.watch.ask()
    return list(zip(total.tolist(), greedy.tolist()))


def _one_by_one(
    loaded: LoadedModel, stream: Stream, requests: Sequence[Request], on_read: Callable[[int], None]
) -> Iterator[tuple[int, Answer]]:
    """Requests whose contexts begin alike; what they share is read once."""
    room = max(len(one.read) for one in requests)
    for i, hidden in each_prompt(loaded, stream, [one.context for one in requests], room=room, on_read=on_read):
        wanted = torch.tensor(requests[i].continuation)
        states = [hidden]
        for piece in wanted[None, :-1].split(stream.chunk, dim=1):
            if piece.shape[1]:
                on_read(piece.shape[1])
                states.append(stream.feed(piece.to(loaded.device)).hidden)
        total, greedy = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.bool)
        _add(loaded, torch.cat(states, dim=1)[0], wanted, torch.zeros_like(wanted), total, greedy)
        stream.watch.ask()
        yield i, (float(total), bool(greedy))


def _add(loaded: LoadedModel, hidden: Tensor, wanted: Tensor, row: Tensor, total: Tensor, greedy: Tensor) -> None:
    """Add ln p of `wanted`, which `hidden` (n, hidden_size) predict, to the totals of their rows."""
    log_p, first = log_prob_and_top1(loaded, hidden, wanted)
    total.index_add_(0, row, log_p.cpu().double())
    greedy[row[~first.cpu()]] = False
