"""The devices this machine has, with what is free on each."""

from __future__ import annotations

import torch

from qroar_core.models.memory import free_bytes


def device_names() -> list[str]:
    """`cuda` or, of several, `cuda:0` ...; then `mps`; then `cpu`, which is always there."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    cuda = ["cuda"] if count == 1 else [f"cuda:{i}" for i in range(count)]
    return [*cuda, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


def free_memory() -> dict[str, int]:
    """Device name -> free bytes now, in the order `auto` would choose."""
    return {name: free_bytes(torch.device(name)) for name in device_names()}
