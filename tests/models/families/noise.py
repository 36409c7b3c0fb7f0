"""The logit noise of a family by its definition, from q and K as transformers' own attention gets them.

Shares no code with the package: every (head, query, key) that transformers' own mask lets through, in float64.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from qroar_core.models.text import windows
from tests.models.families_table import SEEN, recorded
from tests.models.small_specs import SMALL, TEXT

ROWS = replace(SMALL, position_bins=4)  # every sampled query row has a number of its own


def rounded(x, bits):
    """Symmetric levels, one step for each token and head."""
    if bits is None:
        return x
    top = 2 ** (bits - 1) - 1
    step = x.abs().amax(-1, keepdim=True) / top
    return (x / step).round() * step


def noise_of(loaded, rows, k_bits, q_bits=None):
    """Root mean square over layers, heads and keys of the noise on the logits of each row, under the model's own RoPE.

    Where q is rounded too, so is K, both by `q_bits` and `k_bits`.
    """
    ids = windows(loaded.tokenizer, TEXT, ROWS.length, 1).ids
    with recorded(loaded.model) as own, torch.no_grad():
        loaded.model(ids, use_cache=False)
    squares = torch.zeros(len(own), len(rows), dtype=torch.float64)
    for layer, (q, k) in own.items():
        visible, scaling = SEEN[layer]
        q, k = q.double(), k.double().repeat_interleave(len(q) // len(k), 0)
        noise = scaling * (rounded(q, q_bits) @ rounded(k, k_bits).mT - q @ k.mT)
        for at, row in enumerate(rows):
            squares[layer, at] = noise[:, row, visible[row]].square().mean()
    return squares.mean(0).sqrt().tolist()
