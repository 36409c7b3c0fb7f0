"""Several ways on from one prompt: the cache is read once, and taken back to where it stood after each.

A cache that rounds each token as it enters only has to forget the tokens behind the mark: the next ones
overwrite them. One that rounds whole blocks (KIVI) may have rounded raw tokens of the prompt meanwhile, so
those that waited raw are kept aside. A state that layers carry instead of K and V knows no way back: it is copied.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Cache

from qroar_core.models.finite import require_finite
from qroar_core.models.kv_store import QuantizedCache
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.score import logits_of
from qroar_core.models.stream import Stream


@dataclass(frozen=True, slots=True, eq=False)
class Mark:
    """Where a run stood: tokens fed; of each half that rounds in blocks its end and what waited behind; the state."""

    fed: int
    waiting: list[
        tuple[QuantizedCache, int, Tensor]
    ]  # half, tokens rounded, raw (B, n_kv_heads, fed - rounded, head_dim)
    state: Cache | None


def mark(stream: Stream) -> Mark:
    """Remember where `stream` stands; costs at most one block a half, and a copy of the state."""
    halves = [half for pair in stream.halves for half in pair if half.block > 1]
    waiting = [(half, half.rounded_to, half.store[:, :, half.rounded_to : stream.fed].clone()) for half in halves]
    return Mark(stream.fed, waiting, copy.deepcopy(stream.state))


def rewind(stream: Stream, to: Mark) -> None:
    """Take `stream` back to a mark of the run under way: what was fed since never happened."""
    stream.fed, stream.state = to.fed, copy.deepcopy(to.state)
    for half, rounded_to, raw in to.waiting:
        half.rounded_to = rounded_to
        half.store[:, :, rounded_to : to.fed] = raw


def forced_log_prob(loaded: LoadedModel, stream: Stream, hidden: Tensor, answer: Tensor) -> Tensor:
    """ln p of each token of `answer` behind what the stream has read, teacher-forced, nats; the stream stays there.

    Args:
        hidden: final hidden state of the last token read, (1, 1, hidden_size).
        answer: int64 (m,), m >= 1.
    Returns:
        (m,), float32 or wider, on the CPU.
    Raises:
        NonFinite: an activation or a logit that is no number.
    """
    at = mark(stream)
    states = [hidden]
    if len(answer) > 1:
        states.append(stream.feed(answer[None, :-1].to(loaded.device)).hidden)
        rewind(stream, at)
    with torch.no_grad():
        log_p = logits_of(loaded, torch.cat(states, dim=1)[0]).log_softmax(-1)  # (m, vocab_size)
    stream.watch.ask()
    found = log_p.gather(1, answer[:, None].to(log_p.device))[:, 0].cpu()
    require_finite(found[None], "ln p of an answer", stream.condition, loaded.dtype)
    return found
