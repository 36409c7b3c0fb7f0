"""The keys that runtimes rounded for the files of this folder, and how a test reads what they gave back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent


def keys(tokens: int = 16, head_dim: int = 128, heads: int = 2) -> torch.Tensor:
    """K of a few heads, (heads, tokens, head_dim), float32 that bfloat16 holds: outliers, offsets, exact ties."""
    x = torch.randn(heads, tokens, head_dim, generator=torch.Generator().manual_seed(31))
    x[..., 3] *= 8
    x[..., 70] += 5
    x[0, 2] = torch.arange(head_dim) - 50.0
    x[1, 1, : head_dim // 2] = 0
    x[0, 4] *= 1e-3
    x[1, 5] *= 300
    return x.to(torch.bfloat16).float()


def given_back(runtime: str) -> dict[str, np.ndarray]:
    """What `tests/quantizers/vectors/make.py` kept: float32 like the keys, by name; `version` of the runtime."""
    with np.load(HERE / f"{runtime}.npz") as file:
        return dict(file)
