"""Does a length fit? Asked before anything is allocated, answered with the length that does."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path, PurePosixPath

import torch

from qroar_core.errors import OutOfMemory
from qroar_core.models.loaded import LoadedModel

CGROUP_FILES = (  # limit, used, and the entry of memory.stat for file pages that can be dropped
    ("memory.max", "memory.current", "inactive_file"),  # version 2
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),  # version 1
)
NO_LIMIT = 1 << 60  # version 1 says "no limit" as a number of pages near 2^63
HEADROOM = 0.9  # of the free memory; the rest is for activations and the allocator's slack


def free_bytes(device: torch.device) -> int:
    """Free memory of `device`, bytes; for a CPU what the system (or its container) still has."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # for its next tensors
        return int(torch.cuda.mem_get_info(device)[0] + kept)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    import psutil

    return min([int(psutil.virtual_memory().available), *container_bytes()])


def container_bytes(root: Path = Path("/")) -> list[int]:
    """What each control group of this process still allows, bytes; none without a limit. Linux only.

    A group's limit binds its children, so every group above counts. Version 2 has memory.max and memory.current,
    version 1 memory.limit_in_bytes and memory.usage_in_bytes. Pages of files that can be dropped (inactive_file) are
    counted as used and are free all the same. Inside a container /proc may name a path that is mounted as the root.
    """
    left: list[int] = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, controllers, path = (line.split(":", 2) + ["", ""])[:3]
        inside = PurePosixPath(*(name for name in path.strip().split("/") if name not in ("", "..")))
        mounts = ("sys/fs/cgroup", "sys/fs/cgroup/unified") if number == "0" else ("sys/fs/cgroup/memory",)
        if number != "0" and "memory" not in controllers.split(","):
            continue
        for mount in mounts:
            for group in {root / mount / part for part in (inside, *inside.parents)}:
                left += _left_in(group)
    return left


def _left_in(group: Path) -> list[int]:
    """[limit - used] of one group, [] where it has no limit."""
    for limit, used, cached in CGROUP_FILES:
        try:
            most, now = int(_text(group / limit)), int(_text(group / used))
        except ValueError:  # not there, or "max"
            continue
        if most >= NO_LIMIT:
            continue
        stat = dict(line.split() for line in _text(group / "memory.stat").splitlines() if len(line.split()) == 2)
        return [max(0, most - now + min(now, int(stat.get(cached, 0))))]
    return []


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def return_freed_pages() -> None:
    """Give memory that was freed back to the system where the C library would keep it; Linux with glibc, else nothing.

    Tensors up to 32 MiB come from glibc's heap. What a pass keeps lands between what it frees, and larger temporaries
    no longer fit into the gaps: without this the resident memory grows from chunk to chunk while what is in use does
    not.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    if sys.platform != "linux":
        return None
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # another C library, musl for example
        return None


def cache_bytes_per_token(loaded: LoadedModel) -> int:
    """Bytes of K and V per token over all layers."""
    geo = loaded.geometry
    width = torch.empty(0, dtype=loaded.dtype).element_size()
    return 2 * geo.n_layers * geo.n_kv_heads * max(geo.head_dim, geo.value_dim) * width


def _bytes_per_token(loaded: LoadedModel, batch: int, keys_kept: bool) -> int:
    geo, width = loaded.geometry, torch.empty(0, dtype=loaded.dtype).element_size()
    kept = geo.n_layers * geo.n_kv_heads * geo.head_dim * width if keys_kept else 0
    return batch * (cache_bytes_per_token(loaded) + kept)


def length_that_fits(loaded: LoadedModel, batch: int = 1, weights_copied: bool = False, keys_kept: bool = False) -> int:
    """Longest stream, tokens, that the free memory of every device holds now, each for its own layers.

    Args:
        keys_kept: another stream's K is held beside the cache, to be compared.
    """
    width, devices = torch.empty(0, dtype=loaded.dtype).element_size(), loaded.devices()
    copy = loaded.geometry.parameters * width if weights_copied else 0
    token = _bytes_per_token(loaded, batch, keys_kept)
    shares = {device: count / len(devices) for device, count in Counter(devices).items()}
    fits = ((free_bytes(device) * HEADROOM - copy * share) / (token * share) for device, share in shares.items())
    return max(0, int(min(fits)))


def require_room(
    loaded: LoadedModel, length: int, batch: int = 1, weights_copied: bool = False, keys_kept: bool = False
) -> None:
    """Raises OutOfMemory, naming the length that fits, when `length` does not; arguments as `length_that_fits`."""
    fits = length_that_fits(loaded, batch, weights_copied, keys_kept)
    if length > fits:
        need = length * _bytes_per_token(loaded, batch, keys_kept) / 2**30
        also = " and of the reference's K, kept to compare" if keys_kept else ""
        raise OutOfMemory(
            f"a context of {length} tokens needs {need:.1f} GiB of K/V cache{also}",
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
