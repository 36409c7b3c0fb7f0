"""How far a rounded V cache moves the attention output behind W_O, for value maps not yet applied.

From the attention weights p of some rows and V at every position, both captured once, with v -> M v before the rounding
and M^-1 behind it:  e = sum over keys of p (M^-1 Q(M v) - v),  and the error is |W_O,h e|^2, summed over the query
heads that read one KV head. K is exact here: what rounding K does to p is the other half of the search.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qroar_core.maths.attention_error import CapturedLayer, distance, rounded
from qroar_core.quantizers.exact_keys import first_exact_key
from qroar_core.specs import QuantizerSpec


@dataclass(frozen=True, slots=True, eq=False)
class ValueRows:
    """One layer's values on one window, and who reads them.

    p: (n_kv_heads, group, R, keys), attention weights, zero where the cache holds a value exactly when the row reads.
    v: (n_kv_heads, keys, value_dim). metric: W_O,h^T W_O,h, (n_kv_heads, group, value_dim, value_dim).
    clip: the share of V's ranges that is kept, 0-dim; None: all.
    gate: (n_kv_heads, group, R, value_dim), what the output is multiplied by before W_O; None where nothing is.
    """

    p: Tensor
    v: Tensor
    metric: Tensor
    spec: QuantizerSpec
    clip: Tensor | None = None
    gate: Tensor | None = None

    @classmethod
    def of(cls, layer: CapturedLayer, metric: Tensor, scaling: float, spec: QuantizerSpec) -> ValueRows:
        """From what was captured of a layer, and its metric (n_heads, value_dim, value_dim)."""
        kv, last = layer.k.shape[0], int(layer.rows.max()) + 1
        k, v = layer.k[:, :last], layer.v[:, :last]
        logits = torch.matmul(layer.q.reshape(kv, -1, k.shape[-1]), k.mT).mul_(scaling)
        p = layer.rule.weights(logits.view(kv, -1, len(layer.rows), last), distance(layer.rows, last, k.device))
        if spec.block_tokens > 1:
            exact_from = first_exact_key(spec.block_tokens, layer.rows).to(k.device)[:, None]
            p = p.masked_fill(torch.arange(last, device=k.device) >= exact_from, 0.0)
        gate = None if layer.gate is None else layer.gate.unflatten(0, (kv, -1))
        return cls(p, v, metric.view(kv, -1, *metric.shape[1:]), spec, gate=gate)

    def error(self, maps: Tensor) -> Tensor:
        """Error under maps (n_kv_heads, value_dim, value_dim), (n_kv_heads,), summed over rows; has a gradient in M."""
        back = rounded(self.v @ maps.mT, self.spec, self.clip) @ torch.linalg.inv(maps).mT
        moved = torch.matmul(self.p.flatten(1, 2), back - self.v).view(*self.p.shape[:3], -1)
        moved = moved if self.gate is None else moved * self.gate
        return (torch.matmul(moved, self.metric) * moved).sum((1, 2, 3))

    def moments(self) -> Tensor:
        """What `transforms.value_starts` starts from: (3, n_kv_heads, value_dim, value_dim), float64.

        The second moment of v over all tokens; the same, each token counting by the squares of the weights that the
        sampled rows read it with, as independent errors add; and the metric that errors are read in, each query head
        counting by the sum of its squares.
        """
        read, v, metric = self.p.square().sum(2), self.v.double(), self.metric.double()  # (kv, group, keys)
        by_token = torch.einsum("kgn,kgcc->kn", read.double(), metric)
        seen = torch.einsum("kg,kgij->kij", read.sum(-1).double(), metric)
        return torch.stack((v.mT @ v, (v * by_token[..., None]).mT @ v, seen))
