"""The loaded model in another number format for a while: its weights rounded once, as a checkpoint of that format is.

Nothing is kept twice but the rounded weights: the modules are the same, and get their own weights back bit for bit.
Buffers stay as they are, so RoPE keeps its frequencies in float32, as transformers does in every format.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from qroar_core.models.loaded import LoadedModel
from qroar_core.models.patch import replaced_parameters


@contextmanager
def in_format(loaded: LoadedModel, dtype: torch.dtype) -> Iterator[LoadedModel]:
    """`loaded` with every floating-point parameter rounded to `dtype`; the model itself where it has that format.

    Applied scales are lifted for the while, as in every measurement.
    """
    if dtype == loaded.dtype:
        yield loaded
        return
    with loaded.lock:
        own = {name: p.data for name, p in loaded.model.named_parameters()} | loaded.originals
        rounded = {
            name: None if x is None else x.to(dtype) for name, x in own.items() if x is None or x.is_floating_point()
        }
        with replaced_parameters(loaded.model, rounded):
            yield replace(loaded, dtype=dtype, applied=None, originals={})
