"""Run windows under a condition and keep what scoring needs: the final hidden states of the targets."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qroar_core.models.loaded import LoadedModel
from qroar_core.models.score import last_hidden, token_nll
from qroar_core.models.stream import Condition, open_stream
from qroar_core.progress import OnStep, Step, ignore

BATCH_TOKENS = 2048  # short windows are read several at a time, up to this many tokens a pass


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Per window: hidden states (windows, targets, hidden_size) and target NLL (windows, targets), nats."""

    hidden: Tensor
    nll: Tensor

    @property
    def per_window(self) -> list[float]:
        """Mean NLL of each window."""
        return self.nll.double().mean(dim=1).tolist()


def measure(loaded: LoadedModel, condition: Condition, ids: Tensor, targets: int, *, chunk: int = 512,
            what: str = "", on_step: OnStep = ignore) -> Measured:  # fmt: skip
    """Score the last `targets` tokens of every window in ids (windows, length) under `condition`."""
    count, length = ids.shape
    batch = max(1, min(count, BATCH_TOKENS // length))
    hidden = []
    with open_stream(loaded, condition, length, chunk=chunk, batch=batch) as stream:
        for i in range(0, count, batch):
            on_step(Step("measure", i, count, what))
            hidden.append(last_hidden(stream.run(ids[i : i + batch]), length, targets))
    states = torch.cat(hidden)
    on_step(Step("measure", count, count, what))
    return Measured(states, token_nll(loaded, states, ids[:, length - targets :]))
