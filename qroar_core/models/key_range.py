"""How far K's channels reach on calibration text: what statistics-only scales are made of."""

from __future__ import annotations

import torch
from torch import Tensor

from qroar_core.maths.scatter_gather import gathered
from qroar_core.models.condition import Condition
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.stream import AttentionTap, drain, open_stream
from qroar_core.progress import OnStep, Step, no_progress
from qroar_core.specs import RopeSpec


class _Reach:
    """Running absmax of every layer, (n_kv_heads, head_dim), each where the layer is."""

    def __init__(self) -> None:
        self.absmax: dict[int, Tensor] = {}

    def on_attention(self, tap: AttentionTap) -> None:
        here = tap.k.abs().amax(1).float()
        self.absmax[tap.layer] = torch.maximum(self.absmax.get(tap.layer, here), here)

    def on_layer(self, layer: int, row: int, start: int, hidden: Tensor) -> None:
        pass


def key_absmax(
    loaded: LoadedModel, rope: RopeSpec, ids: Tensor, *, chunk: int = 512, on_step: OnStep = no_progress
) -> Tensor:
    """Largest |k| after RoPE, unquantized, over ids (windows, length); (layers, n_kv_heads, head_dim)."""
    reach = _Reach()
    with open_stream(loaded, Condition(rope), ids.shape[1], chunk=chunk) as stream:
        for w, window in enumerate(ids):
            on_step(Step("measure", w, len(ids), "read the range of K"))
            drain(stream.run(window, (reach,)))
    return gathered([reach.absmax[layer] for layer in range(loaded.geometry.n_layers)])
