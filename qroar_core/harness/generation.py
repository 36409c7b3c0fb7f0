"""Greedy answers to prompts under a condition, up to a word that ends them.

Prompts of one length are continued side by side. Those that share a long start are read one behind the other, the
start once (`models.shared_prefixes`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from qroar_core.models.condition import Condition
from qroar_core.models.decode import decode_rows
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.shared_prefixes import Tokens, each_prompt, sharing
from qroar_core.models.stream import open_stream
from qroar_core.models.window_losses import BATCH_TOKENS


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids of a prompt, one at least; the most tokens of its answer; and texts of which the first ends it."""

    ids: Tokens
    tokens: int
    until: tuple[str, ...] = ()


def generate(
    loaded: LoadedModel,
    condition: Condition,
    prompts: Sequence[Prompt],
    length: int,
    *,
    batch: int | None = None,
    chunk: int = 512,
    on_prompt: Callable[[int], None] = lambda done: None,
) -> list[list[int]]:
    """Tokens of the most probable continuation of every prompt, in their order; what ends an answer is still in it.

    Args:
        length: tokens the stream is opened for, at least those of any prompt and its answer together.
        batch: prompts continued at once; None: as many as have 2,048 tokens together.
        on_prompt: called with the number of prompts that are done, before each token; may raise to stop.
    Raises:
        NonFinite: an activation or a logit that is no number.
    """
    if not prompts:
        return []
    answers: dict[int, list[int]] = {}

    def ends(until: tuple[str, ...]) -> Callable[[list[int]], bool]:
        def stop(chosen: list[int]) -> bool:
            text = loaded.tokenizer.decode(chosen)
            return any(word in text for word in until)

        return stop

    def on_token(fed: int) -> None:
        on_prompt(len(answers))

    apart = sharing([one.ids for one in prompts])
    groups = _groups(prompts, sorted(set(range(len(prompts))) - apart), batch)
    most = max((len(group) * _room(prompts[group[0]]) for group in groups), default=length)
    with open_stream(loaded, condition, length, chunk=chunk, batch=max(1, -(-most // length))) as stream:
        for group in groups:
            first = prompts[group[0]]
            stream.begin(len(group), room=_room(first))
            for piece in torch.tensor([prompts[i].ids for i in group]).split(stream.chunk, dim=1):
                on_token(stream.fed)
                hidden = stream.feed(piece.to(loaded.device)).hidden
            chosen = decode_rows(
                loaded, stream, hidden[:, -1:], first.tokens, stop=ends(first.until), on_token=on_token
            )
            answers |= {i: one.tokens for i, one in zip(group, chosen, strict=True)}
        if apart:
            places = sorted(apart)
            room = max(_room(prompts[i]) for i in places)
            for at, hidden in each_prompt(
                loaded, stream, [prompts[i].ids for i in places], room=room, on_read=on_token
            ):
                one = prompts[places[at]]
                found = decode_rows(loaded, stream, hidden, one.tokens, stop=ends(one.until), on_token=on_token)
                answers[places[at]] = found[0].tokens
    return [answers[i] for i in range(len(prompts))]


def _room(prompt: Prompt) -> int:
    return len(prompt.ids) + prompt.tokens


def _groups(prompts: Sequence[Prompt], places: Sequence[int], batch: int | None) -> list[list[int]]:
    """Places of prompts that are continued at once: of one length, with the same limits."""
    alike: dict[tuple[int, int, tuple[str, ...]], list[int]] = {}
    for i in places:
        alike.setdefault((len(prompts[i].ids), prompts[i].tokens, prompts[i].until), []).append(i)
    groups = []
    for (tokens, more, _), members in sorted(alike.items(), reverse=True):
        count = batch or max(1, BATCH_TOKENS // (tokens + more))
        groups += [members[at : at + count] for at in range(0, len(members), count)]
    return groups
