"""What an attention error metric says about itself: a file of `maths/error_metrics` is one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from qroar_core.maths.softmax_rule import SoftmaxRule


@dataclass(frozen=True, slots=True, eq=False)
class MovedRows:
    """Sampled rows of one layer's attention, whose logits scales and rounding have moved.

    logits: (n_kv_heads, group, R, keys), moved. apart: (R, keys), position of the row minus that of the key.
    v: (n_kv_heads, keys, head_dim). out: (n_heads, R, head_dim), the unmoved output. gate: (n_heads, R, head_dim), what
    the output is multiplied by before W_O; None where nothing is. w_o: W_O,h^T W_O,h, (n_heads, head_dim, head_dim).
    exact_logits: computes the unmoved logits, shaped as `logits`.
    """

    rule: SoftmaxRule
    logits: Tensor
    apart: Tensor
    v: Tensor
    out: Tensor
    gate: Tensor | None
    w_o: Tensor
    exact_logits: Callable[[], Tensor]

    def output_change(self) -> Tensor:
        """o^(g) - o, (n_heads, R, head_dim)."""
        p = self.rule.weights(self.logits, self.apart)
        return torch.matmul(p.flatten(1, 2), self.v).view(len(self.out), self.out.shape[1], -1) - self.out

    def by_kv_head(self, per_head: Tensor) -> Tensor:
        """Sum over the query heads that read one KV head: (n_heads, R) -> (n_kv_heads, R)."""
        return per_head.view(len(self.v), -1, per_head.shape[-1]).sum(1)


@dataclass(frozen=True, slots=True)
class ErrorMetric:
    """One measure of the damage to attention.

    Args:
        label: as menus and captions call it.
        place: where it stands in menus; smaller comes first.
        error: rows -> damage of every KV head and row, (n_kv_heads, R), zero where nothing moved; differentiable in
            `rows.logits`.
        formula: as docs/method.md section 4.6 writes it; l logits, p = softmax(l), o = p v, ^ what is moved.
    """

    label: str
    place: int
    error: Callable[[MovedRows], Tensor]
    formula: str
