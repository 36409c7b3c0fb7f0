"""Greedy continuation of a prompt under any condition, through the stream and its quantized cache.

The prompt is read chunk by chunk, then one token at a time: what a runtime does at temperature 0. A new
token sees the cache as it stands, so a K that was rounded stays rounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qroar_core.models.condition import Condition
from qroar_core.models.finite import non_finite
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.score import logits_of
from qroar_core.models.stream import Stream, open_stream


@dataclass(frozen=True, slots=True)
class Chosen:
    """The tokens taken, and the natural logarithm of the probability each had under this condition."""

    tokens: list[int]
    log_prob: list[float]


def decode(
    loaded: LoadedModel,
    condition: Condition,
    prompt: Tensor,
    tokens: int,
    *,
    length: int,
    chunk: int = 512,
    on_token: Callable[[int], None] = lambda done: None,
) -> Chosen:
    """Take the most probable token `tokens` times, or until the model ends the text.

    Args:
        prompt: token ids, int64 (n,), n >= 1.
        length: tokens the stream is opened for, >= n + tokens; fixes length-dependent frequencies.
        on_token: called with the number of tokens read or taken so far; may raise to stop.
    """
    with open_stream(loaded, condition, length, chunk=chunk) as stream:
        return decode_from(loaded, stream, read(loaded, stream, prompt, on_token), tokens, on_token)


def read(
    loaded: LoadedModel, stream: Stream, prompt: Tensor, on_token: Callable[[int], None] = lambda done: None
) -> Tensor:
    """Begin a run with `prompt`, int64 (n,), chunk by chunk; its last token's final hidden state, (1, 1, hidden)."""
    stream.begin()
    for piece in prompt.to(loaded.device)[None].split(stream.chunk, dim=1):
        on_token(stream.fed)
        hidden = stream.feed(piece).hidden
    return hidden[:, -1:]


def decode_from(
    loaded: LoadedModel,
    stream: Stream,
    hidden: Tensor,
    tokens: int,
    on_token: Callable[[int], None] = lambda done: None,
) -> Chosen:
    """Go on greedily behind what `stream` has read, whose last final hidden state is `hidden`, (1, 1, hidden).

    Raises:
        NonFinite: an activation or a logit that is no number.
    """
    return decode_rows(loaded, stream, hidden, tokens, on_token=on_token)[0]


def decode_rows(
    loaded: LoadedModel,
    stream: Stream,
    hidden: Tensor,
    tokens: int,
    *,
    stop: Callable[[list[int]], bool] = lambda chosen: False,
    on_token: Callable[[int], None] = lambda done: None,
) -> list[Chosen]:
    """`decode_from` for several prompts of one length at once, `hidden` (B, 1, hidden).

    Args:
        stop: asked with what one row has taken so far, whether that row ends there.
    """
    ends = end_tokens(loaded)
    rows = [Chosen([], []) for _ in hidden]
    going = set(range(len(rows)))
    while True:
        on_token(stream.fed)
        with torch.no_grad():
            log_p = logits_of(loaded, hidden[:, 0]).log_softmax(-1)
        best = log_p.argmax(-1, keepdim=True)
        for at, (token, log_prob) in enumerate(zip(best[:, 0].tolist(), log_p.gather(-1, best)[:, 0].tolist())):
            if at not in going:
                continue
            stream.watch.ask()
            if not math.isfinite(log_prob):
                raise non_finite(f"a logit at position {stream.fed - 1}", stream.condition, loaded.dtype)
            chosen = rows[at]
            chosen.tokens.append(token)
            chosen.log_prob.append(log_prob)
            if len(chosen.tokens) == tokens or token in ends or stop(chosen.tokens):
                going.discard(at)
        if not going:
            return rows
        hidden = stream.feed(best.to(loaded.device)).hidden


def end_tokens(loaded: LoadedModel) -> set[int]:
    """Ids after which the model has nothing more to say, as transformers' own generate knows them."""
    ends = getattr(loaded.model.generation_config, "eos_token_id", None)
    return set() if ends is None else set(ends) if isinstance(ends, list) else {ends}


def added_text(tokenizer: Any, before: list[int], tokens: list[int]) -> list[str]:
    """What each of `tokens` adds to the text behind `before`; a character cut across tokens comes with its last."""
    shown = tokenizer.decode(before)
    pieces = []
    for i in range(len(tokens)):
        now = tokenizer.decode(before + tokens[: i + 1])
        whole = not now.endswith("\N{REPLACEMENT CHARACTER}") or i == len(tokens) - 1
        pieces.append(now[len(shown) :] if whole else "")
        shown = now if whole else shown
    return pieces
