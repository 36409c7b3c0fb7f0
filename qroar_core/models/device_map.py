"""One model over several GPUs: whole decoder layers, evenly by size, as transformers' own `device_map="balanced"`.

accelerate moves what passes from layer to layer; a layer's K/V cache, its quantizers and its observers stay with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from qroar_core.errors import OutOfMemory
from qroar_core.models.memory import HEADROOM, free_bytes


def device_map(model: Any, devices: Sequence[torch.device]) -> dict[str, torch.device]:
    """Name of each module -> the device it goes to; no decoder layer is split.

    Raises:
        OutOfMemory: the devices together do not hold the weights.
    """
    from accelerate import infer_auto_device_map
    from accelerate.utils import get_balanced_memory

    whole = sorted(model._no_split_modules or ())  # classes of layers, as transformers notes them
    room: dict[int | str, int | str] = {i: int(HEADROOM * free_bytes(device)) for i, device in enumerate(devices)}
    room = get_balanced_memory(model, room, no_split_module_classes=whole)
    found = infer_auto_device_map(model, room, no_split_module_classes=whole)
    if not all(isinstance(at, int) for at in found.values()):
        raise OutOfMemory("the weights do not fit", where=" and ".join(map(str, devices)), do="choose --device cpu")
    return {name: devices[int(at)] for name, at in found.items()}


def spread(model: Any, devices: Sequence[torch.device]) -> None:
    """Put the model's modules on `devices`; ids go in on the device of the embeddings, which is the first."""
    from accelerate import dispatch_model

    dispatch_model(
        model,
        device_map(model, devices),
        main_device=devices[0],
        skip_keys=getattr(model, "_skip_keys_device_placement", None),
    )
