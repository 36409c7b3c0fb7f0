"""Attention whose output is gated channel by channel before W_O: the gates of the chunk under way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor
from torch.nn import Module

from qroar_core.models.loaded import LoadedModel

Gates = dict[int, Tensor]  # layer -> (B, t, n_heads, head_dim) of the newest chunk


@contextmanager
def gates_of(loaded: LoadedModel) -> Iterator[Gates]:
    """Filled layer by layer while the model runs, each before the layer's attention; stays empty without gates."""
    found: Gates = {}
    gates = loaded.family.output_gates(loaded.geometry)
    hooks = []
    if gates is not None:
        for layer, (query, _) in enumerate(loaded.slots()):
            projection = loaded.model.get_submodule(query.weight.removesuffix(".weight"))

            def keep(module: Module, args: object, projected: Tensor, layer: int = layer) -> None:
                found[layer] = gates(projected)

            hooks.append(projection.register_forward_hook(keep))
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
