"""Tensors of many layers that may lie on several devices: sent out and brought in with one wait a device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def sent(x: Tensor, devices: Sequence[torch.device]) -> list[Tensor]:
    """x[i] on the i-th device, for x (layers, ...): copied once a device."""
    there = {device: x.to(device) for device in dict.fromkeys(devices)}
    return [there[device][i] for i, device in enumerate(devices)]


def gathered(parts: Sequence[Tensor]) -> Tensor:
    """Equal shapes of all layers, (layers, ...), on the host."""
    groups: dict[torch.device, list[int]] = {}
    for i, part in enumerate(parts):
        groups.setdefault(part.device, []).append(i)
    stacked = [torch.stack([parts[i] for i in mine]).cpu() for mine in groups.values()]
    if len(stacked) == 1:
        return stacked[0]
    order = torch.tensor([i for mine in groups.values() for i in mine])
    return torch.cat(stacked)[order.argsort()]
