"""What any part of K's channels, rounded alone, makes of the logits: from one small matrix, however many parts.

With q a row's query and e a key's rounding error, a part's error on the logit is the sum over its channels of q_c e_c.
Its mean square is then the sum, over all pairs (c, c') of the part's channels, of the mean of q_c e_c q_c' e_c'. That
matrix of means costs about as much as the logits of a few parts, and the null deals channels to parts many times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from qroar_core.maths.meters import onto
from qroar_core.maths.softmax_rule import SoftmaxRule


@dataclass(slots=True, eq=False)
class ChannelProducts:
    """Mean over sampled rows, heads and the keys that a row sees of q_c e_c q_c' e_c', added block of keys by block.

    Keys that the same rows see are taken together: their products factor into those of q and those of e.

    Args:
        q: (heads, R, head_dim) float64, scaled. rows: their positions, ascending, (R,) on the CPU.
        keys: how many there are in all; no row sees a later one. block: how many are taken at once.
    """

    q: Tensor
    rows: Tensor
    rule: SoftmaxRule
    keys: int
    block: int
    mean: Tensor = field(init=False)  # (head_dim, head_dim) float64, where q is
    root: Tensor = field(init=False)  # root of the weight of each (row, head, key), (R, 1)

    def __post_init__(self) -> None:
        heads, count, channels = self.q.shape
        self.mean = self.q.new_zeros(channels, channels)
        seen = torch.zeros(count, dtype=torch.float64)
        for start in range(0, self.keys, self.block):
            seen += self._visible(start, min(self.block, self.keys - start)).sum(1)
        self.root = onto((seen * count * heads).rsqrt()[:, None], self.q.device)

    def _visible(self, start: int, count: int) -> Tensor:
        """Which rows see which keys, (R, count): on the CPU, so that no device is waited for."""
        return self.rule.visible(self.rows[:, None] - torch.arange(start, start + count))

    def add(self, start: int, error: Tensor) -> None:
        """Add keys from position `start`: their errors (n_kv_heads, n, head_dim) float64."""
        visible = self._visible(start, error.shape[1])
        changes = torch.nonzero((visible[:, 1:] != visible[:, :-1]).any(0))[:, 0] + 1
        for first, stop in pairwise([0, *changes.tolist(), error.shape[1]]):
            who = torch.nonzero(visible[:, first])[:, 0].tolist()
            if not who:
                continue
            at = slice(who[0], who[-1] + 1)  # a window of positions: rows without a gap
            weighed = (self.q[:, at] * self.root[at]).reshape(len(error), -1, error.shape[-1])
            here = error[:, first:stop]
            self.mean += ((here.mT @ here) * (weighed.mT @ weighed)).sum(0)


def noise_of(mean: Tensor, parts: Sequence[Tensor]) -> Tensor:
    """RMS of the logit error with each part rounded alone, (parts,), nats; NaN where a part has no channels."""
    square = [mean[part][:, part].sum().clamp(min=0) if len(part) else mean.new_tensor(torch.nan) for part in parts]
    return torch.stack(square).sqrt()
