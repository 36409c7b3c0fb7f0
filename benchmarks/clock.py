"""Timing against a bare forward pass of the same model in the same process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from qroar_core.models.loaded import LoadedModel


def seconds(job: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    started = time.perf_counter()
    job()
    return time.perf_counter() - started


@torch.inference_mode()
def bare_forward(loaded: LoadedModel, ids: Tensor, repeats: int = 1) -> float:
    """Median seconds of transformers' own forward over ids (B, T), logits included, one window at a time."""

    def once() -> None:
        for row in ids:
            loaded.model(row[None].to(loaded.device), use_cache=False)

    return statistics.median(seconds(once) for _ in range(repeats))
