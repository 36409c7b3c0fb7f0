"""The devices this machine has, what is free on each, and which of them a person means."""

from __future__ import annotations

import torch

from qroar_core.errors import BadSpec
from qroar_core.models.memory import free_bytes

BALANCED = "balanced"  # as transformers calls it: layers spread evenly over every GPU


def gpus() -> list[torch.device]:
    """Every CUDA device."""
    return [torch.device("cuda", i) for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0)]


def device_names() -> list[str]:
    """`cuda` or, of several, `balanced`, `cuda:0` ...; then `mps`; then `cpu`, which is always there."""
    there = [str(device) for device in gpus()]
    cuda = ["cuda"] if len(there) == 1 else [BALANCED, *there] if there else []
    return [*cuda, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


def free_memory() -> dict[str, int]:
    """Device name -> free bytes now, of all its devices together."""
    return {name: sum(map(free_bytes, choose_devices(name))) for name in device_names()}


def choose_device(name: str) -> torch.device:
    """`choose_devices`' first: where token ids go in."""
    return choose_devices(name)[0]


def choose_devices(name: str) -> list[torch.device]:
    """The devices of `name`: one, or for `balanced` all GPUs. `auto` is CUDA, then MPS, then the CPU.

    Raises:
        BadSpec: a device this machine does not have.
    """
    if name == BALANCED:
        if len(gpus()) < 2:
            raise BadSpec(
                f"balanced spreads a model over GPUs, this machine has {len(gpus())}",
                where="--device",
                do="choose auto",
            )
        return gpus()
    if name == "auto":
        cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
        return [torch.device("cuda" if cuda else "mps" if mps else "cpu")]
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BadSpec(
            f"unknown device {name!r}", where="--device", do="choose auto, balanced, cpu, cuda or mps"
        ) from error
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if not there.get(device.type, False):
        raise BadSpec(f"device {name} is not available here", where="--device", do="choose auto or cpu")
    if device.type == "cuda" and (device.index or 0) >= len(gpus()):
        raise BadSpec(f"device {name} is not available here, it has {len(gpus())}", where="--device", do="choose auto")
    return [device]
