"""Resources that Ray reserves for a worker, from our own estimate of the model's memory."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from qroar_core.number_of import number_of
from qroar_core.sweeps.cell import Cell
from qroar_core.sweeps.remedy_words import NONE, WORDS

GIB = 2**30
WINDOWS = 8  # of a search where nobody says


@dataclass(frozen=True, slots=True)
class Need:
    """Of one worker. `memory`: main memory, bytes."""

    cpus: int
    gpus: int = 0
    memory: int = 0

    @property
    def words(self) -> str:
        """In a sentence."""
        gpus = f", {number_of(self.gpus, 'GPU')}" if self.gpus else ""
        return f"{number_of(self.cpus, 'CPU')}{gpus} and {self.memory / GIB:.1f} GiB"

    @property
    def options(self) -> dict[str, Any]:
        """As Ray takes them."""
        return {"num_cpus": self.cpus, "num_gpus": self.gpus, "memory": self.memory}

    def fits(self, has: Mapping[str, float]) -> bool:
        """Does a node with these resources have room, once nothing else runs on it?"""
        asked = {"CPU": self.cpus, "GPU": self.gpus, "memory": self.memory}
        return all(has.get(name, 0) >= amount for name, amount in asked.items())


def bytes_needed(cells: Sequence[dict[str, Any]], dtype: str, gpu: bool, where: str) -> tuple[int, int]:
    """Bytes that a worker takes for these cells of one model where it computes, and to load the model.

    The first is `NeededMemory.of` of the cell that needs most. Both are 0 where the model is refused.

    What is wrong with it is said by the worker, in the row of each cell.
    """
    import torch

    from qroar_core.models import needed_memory

    with suppress(OSError):
        os.chdir(where)
    found = [Cell(**one) for one in cells]
    try:
        # its number format is that of the device it will be on, which may be another node's
        needed = needed_memory.read(found[0].model, torch.device("cuda" if gpu else "cpu"), dtype)
    except Exception:  # loading says what is wrong with it
        return 0, 0
    return max(needed.of(*asked_of(cell, needed.native)) for cell in found), needed.weights + needed_memory.PROCESS


def asked_of(cell: Cell, native: int) -> tuple[int, int, bool]:
    """Tokens of a window, tokens of the text that a search reads, whether weights are copied."""
    length = cell.length or math.ceil(native * float(cell.rope.get("factor", 1.0)))
    searched = cell.remedy != NONE and WORDS[cell.remedy].condition != "quantized/rotation"
    captured = (cell.windows or WINDOWS) * length if searched else 0
    return length, captured, "weights" in cell.quantizer or cell.remedy in ("awq", "gptq", "smoothquant")


def need_of(computed: int, loaded: int, cpus: int, gpu: int) -> Need:
    """Resources for a worker. A GPU is not divided; a model that needs more than one is spread over several.

    Args:
        computed, loaded: bytes, as `bytes_needed` returns them.
        gpu: bytes of one GPU; 0: the work is done on the CPU.
    """
    if not gpu:
        return Need(cpus, 0, computed)
    return Need(cpus, max(1, math.ceil(computed / gpu)), loaded)
