"""Four ways to judge scales on captured attention, side by side: which of them tells what text will cost?

Per layer, window and KV head, over sampled query rows, each relative to identity by whoever reads them:
`logits` mean square error of the visible logits; `rows` KL of the attention rows; `output` square error of the
attention output; `projected` the same after W_O, which is what the search minimises (maths/attention_error).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from qroar_core.maths.attention_error import CapturedLayer, Setup, distance, scaled_and_rounded

Judge = Literal["logits", "rows", "output", "projected"]
JUDGES: tuple[Judge, ...] = ("logits", "rows", "output", "projected")


def judged(layer: CapturedLayer, log2_g: Tensor, metric: Tensor, setup: Setup) -> dict[Judge, Tensor]:
    """Every judge's error of every KV head, summed over rows and query heads; (n_kv_heads,) each.

    Args:
        log2_g: (n_kv_heads, bands). metric: (n_heads, head_dim, head_dim), W_O,h^T W_O,h.
    """
    last = int(layer.rows.max()) + 1
    heads, n_rows, d = layer.q.shape
    kv = layer.k.shape[0]
    apart = distance(layer.rows, last, layer.k.device)  # (R, keys)
    visible = layer.rule.visible(apart)
    q, k = scaled_and_rounded(layer, layer.q, log2_g, setup, last)
    logits = [torch.matmul(a, b.mT).mul(setup.scaling).view(kv, -1, n_rows, last)  # (kv, group, R, keys)
              for a, b in ((layer.q.reshape(kv, -1, d), layer.k[:, :last]), (q, k))]  # fmt: skip
    p, p_hat = (layer.rule.weights(x.clone(), apart) for x in logits)
    off = (logits[1] - logits[0]).square().masked_fill(~visible, 0).sum(-1) / visible.sum(-1)
    kl = torch.where(p > 0, p * (p.clamp_min(1e-30).log() - p_hat.clamp_min(1e-30).log()), 0).sum(-1)
    moved = torch.matmul(p_hat.flatten(1, 2), layer.v[:, :last]).view(heads, n_rows, d) - layer.out
    seen = layer.seen_by_w_o(moved)
    return {
        "logits": off.sum((1, 2)),
        "rows": kl.sum((1, 2)),
        "output": moved.square().sum((1, 2)).view(kv, -1).sum(1),
        "projected": (torch.matmul(seen, metric) * seen).sum((1, 2)).view(kv, -1).sum(1),
    }
