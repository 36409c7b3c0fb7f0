"""What bends an attention softmax besides causality: a sliding window, soft-capped logits, a sink.

Kept as one value so that the model's own attention, the cached objective and the diagnostics weigh keys alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

MASKED = -1e30


@dataclass(frozen=True, slots=True, eq=False)
class SoftmaxRule:
    """How one layer turns logits into attention weights; causality goes without saying."""

    window: int | None = None  # a query sees the newest `window` keys, itself included; None = all
    softcap: float | None = None  # logits become softcap * tanh(logits / softcap) before the mask (Gemma 2)
    sinks: Tensor | None = None  # (n_heads,): logit of one more entry of each softmax that carries no value (gpt-oss)

    @property
    def is_plain(self) -> bool:
        """True for a softmax over all earlier keys."""
        return self.window is None and self.softcap is None and self.sinks is None

    def visible(self, distance: Tensor) -> Tensor:
        """Which keys a query sees, from query position minus key position; bool of the same shape."""
        seen = distance >= 0
        return seen if self.window is None else seen & (distance < self.window)

    def capped(self, logits: Tensor) -> Tensor:
        """Logits after the cap, if there is one."""
        return logits if self.softcap is None else self.softcap * (logits / self.softcap).tanh()

    def weights(self, logits: Tensor, distance: Tensor) -> Tensor:
        """Attention weights of logits (n_kv_heads, group, R, N) of query heads in order; distance (R, N).

        With a sink they add up to less than 1.
        """
        logits = self.capped(logits).masked_fill(~self.visible(distance), MASKED)
        if self.sinks is None:
            return logits.softmax(-1)
        sink = self.sinks.to(logits).view(*logits.shape[:2], 1, 1).expand(*logits.shape[:-1], 1)
        return torch.cat((logits, sink), dim=-1).softmax(-1)[..., :-1]


USUAL_SOFTMAX = SoftmaxRule()
