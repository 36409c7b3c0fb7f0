"""Does a length fit? Asked before anything is allocated, answered with the length that does."""

from __future__ import annotations

import gc
from collections import Counter

import torch

from qroar_core.errors import OutOfMemory
from qroar_core.models.loaded import LoadedModel

HEADROOM = 0.9  # of the free memory; the rest is for activations and the allocator's slack


def free_bytes(device: torch.device) -> int:
    """Free memory of `device`, bytes; for a CPU what the system (or its container) still has."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    import psutil

    return int(psutil.virtual_memory().available)


def cache_bytes_per_token(loaded: LoadedModel) -> int:
    """Bytes of K and V per token over all layers."""
    geo = loaded.geometry
    width = torch.empty(0, dtype=loaded.dtype).element_size()
    return 2 * geo.n_layers * geo.n_kv_heads * max(geo.head_dim, geo.value_dim) * width


def length_that_fits(loaded: LoadedModel, batch: int = 1, weights_copied: bool = False) -> int:
    """Longest stream, tokens, that the free memory of every device holds now, each for its own layers."""
    width, devices = torch.empty(0, dtype=loaded.dtype).element_size(), loaded.devices()
    copy = loaded.geometry.parameters * width if weights_copied else 0
    token = batch * cache_bytes_per_token(loaded)
    shares = {device: count / len(devices) for device, count in Counter(devices).items()}
    fits = ((free_bytes(device) * HEADROOM - copy * share) / (token * share) for device, share in shares.items())
    return max(0, int(min(fits)))


def require_room(loaded: LoadedModel, length: int, batch: int = 1, weights_copied: bool = False) -> None:
    """Raises OutOfMemory, naming the length that fits, when `length` does not."""
    fits = length_that_fits(loaded, batch, weights_copied)
    if length > fits:
        need = batch * length * cache_bytes_per_token(loaded) / 2**30
        raise OutOfMemory(
            f"a context of {length} tokens needs {need:.1f} GiB of K/V cache",
            where=str(loaded.device),
            do=f"choose a length of at most {fits} tokens",
        )


def ran_out(fault: Exception) -> bool:
    """Is this an allocator's way of saying that memory is full?"""
    return isinstance(fault, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(fault)


def out_of_memory(loaded: LoadedModel, asked: int) -> OutOfMemory:
    """What to say after a stage that was asked for `asked` tokens ran out of memory midway.

    Half of what failed, or what the free memory holds now if that is less: the working memory of a stage
    grows with its length and nobody can say by how much, the K/V cache is only a part of it.
    """
    gc.collect()
    if loaded.device.type == "cuda":
        torch.cuda.empty_cache()
    fits = min(length_that_fits(loaded), asked // 2)
    return OutOfMemory(
        f"out of memory at {asked} tokens", where=str(loaded.device), do=f"choose a length of at most {fits} tokens"
    )
