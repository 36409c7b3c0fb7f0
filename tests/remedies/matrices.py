"""Random weights and the inputs that they read."""

import torch


def inputs(tokens=200, width=32, seed=0):
    """Correlated inputs with a few loud channels; float64 (tokens, width)."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(tokens, width, generator=generator, dtype=torch.float64)
    mix = torch.randn(width, width, generator=generator, dtype=torch.float64)
    x = x @ mix / width**0.5 + x
    x[:, [3, 17]] *= 8
    return x


def weights(rows=12, width=32, seed=1):
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
