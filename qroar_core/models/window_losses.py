"""Run windows under a condition and keep a few numbers per target token, at any length in the same memory.

Each chunk's predictions are scored while it passes; neither logits nor hidden states of a window are ever whole.
What a divergence needs of the reference waits in a `HiddenStateFile` file: the first condition writes it (`keep`), the
others are compared with it (`against`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from qroar_core.maths.meters import onto
from qroar_core.models.finite import require_finite
from qroar_core.models.hidden_state_file import HiddenStateFile
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.score import Divergence, nll_and_divergence, token_nll
from qroar_core.models.stream import Condition, HiddenChunk, Stream, open_stream
from qroar_core.progress import OnStep, Step, no_progress

SCORES = ("the NLL", "the KL to the reference")  # columns that must be numbers; the third is true or false
BATCH_TOKENS = 2048  # short windows are read several at a time, up to this many tokens a pass


@dataclass(frozen=True, slots=True, eq=False)
class TokenLosses:
    """Per target, (windows, targets) on the CPU: its NLL, nats, and where asked its divergence from the reference."""

    nll: Tensor
    apart: Divergence | None = None

    @property
    def per_window(self) -> list[float]:
        """Mean NLL of each window."""
        return self.nll.double().mean(dim=1).tolist()


def measure(
    loaded: LoadedModel,
    condition: Condition,
    ids: Tensor,
    targets: int,
    *,
    chunk: int = 512,
    what: str = "",
    on_step: OnStep = no_progress,
    keep: HiddenStateFile | None = None,
    against: HiddenStateFile | None = None,
) -> TokenLosses:
    """Score the last `targets` tokens of every window in ids (windows, length) under `condition`.

    Args:
        keep: takes the hidden states of all targets. against: holds those of the reference, for a divergence.
    Raises:
        NonFinite: an activation or a score that is no number.
    """
    count, length = ids.shape
    batch = _batch(ids)
    rows: list[list[Tensor]] = []
    with open_stream(loaded, condition, length, chunk=chunk, batch=batch) as stream:
        for first in range(0, count, batch):
            here = onto(ids[first : first + batch], loaded.device)
            parts: list[list[Tensor]] = []
            pieces = _with_steps(stream, here, first, count, what, on_step)
            for target, hidden in predicting(pieces, length, targets):
                start = length - targets + target
                wanted = here[:, start : start + hidden.shape[1]]
                if keep is not None:
                    keep.write(first, target, hidden)
                if against is None:
                    parts.append([token_nll(loaded, hidden, wanted)])
                    continue
                reference = against.read(first, target, (hidden.shape[0], hidden.shape[1]), hidden.device)
                nll, apart = nll_and_divergence(loaded, reference, hidden, wanted)
                parts.append([nll, apart.kl, apart.same_top1])
            rows.append([torch.cat(part, 1).cpu() for part in zip(*parts, strict=True)])
    on_step(Step("measure", count * length, count * length, what))
    columns = [torch.cat(part) for part in zip(*rows, strict=True)]
    for name, column in zip(SCORES, columns):
        require_finite(column, name, condition, loaded.dtype)
    return TokenLosses(columns[0], Divergence(columns[1], columns[2]) if against is not None else None)


def hidden_states(loaded: LoadedModel, condition: Condition, ids: Tensor, targets: int) -> Tensor:
    """Final hidden states of the targets of all windows, (windows, targets, hidden_size): for few short windows.

    Raises:
        NonFinite: an activation that is no number.
    """
    count, length = ids.shape
    batch = _batch(ids)
    with open_stream(loaded, condition, length, batch=batch) as stream:
        kept = [last_hidden(stream.run(ids[i : i + batch]), length, targets) for i in range(0, count, batch)]
    return torch.cat(kept)


def predicting(pieces: Iterable[HiddenChunk], total: int, targets: int) -> Iterator[tuple[int, Tensor]]:
    """Of a window of `total` tokens the states that predict its last `targets`: (first target, (B, t, hidden_size)).

    The hidden state at position p predicts token p + 1, so positions total-targets-1 .. total-2.
    """
    first, last = total - targets - 1, total - 1
    for piece in pieces:
        a, b = max(first, piece.start), min(last, piece.start + piece.hidden.shape[1])
        if b > a:
            yield a - first, piece.hidden[:, a - piece.start : b - piece.start]


def last_hidden(pieces: Iterable[HiddenChunk], total: int, targets: int) -> Tensor:
    """All of `predicting` at once, (B, targets, hidden_size): for short windows."""
    return torch.cat([hidden for _, hidden in predicting(pieces, total, targets)], dim=1)


def _batch(ids: Tensor) -> int:
    """Windows of ids (windows, length) to read at once."""
    return max(1, min(ids.shape[0], BATCH_TOKENS // ids.shape[1]))


def _with_steps(
    stream: Stream, ids: Tensor, first: int, count: int, what: str, on_step: OnStep
) -> Iterator[HiddenChunk]:
    """The pieces of windows `first`.. of `count`, and a step before each: a long window can be given up anywhere."""
    windows, length = ids.shape
    on_step(Step("measure", first * length, count * length, what))
    for piece in stream.run(ids):
        yield piece
        done = first * length + windows * (piece.start + piece.hidden.shape[1])
        on_step(Step("measure", done, count * length, what))
