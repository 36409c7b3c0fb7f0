"""How far K's channels reach on calibration text: what statistics-only scales are made of."""

from __future__ import annotations

import torch
from torch import Tensor

from qroar_core.models.condition import Condition
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.stream import AttentionTap, drain, open_stream
from qroar_core.progress import OnStep, Step, ignore
from qroar_core.specs import RopeSpec


class _Reach:
    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.absmax = torch.zeros(shape)

    def on_attention(self, tap: AttentionTap) -> None:
        here = tap.k.abs().amax(1).float().cpu()  # (n_kv_heads, head_dim)
        self.absmax[tap.layer] = torch.maximum(self.absmax[tap.layer], here)

    def on_layer(self, layer: int, row: int, start: int, hidden: Tensor) -> None:
        pass


def key_absmax(loaded: LoadedModel, rope: RopeSpec, ids: Tensor, *, chunk: int = 512,
               on_step: OnStep = ignore) -> Tensor:  # fmt: skip
    """Largest |k| after RoPE, unquantized, over ids (windows, length); (layers, n_kv_heads, head_dim)."""
    geo = loaded.geometry
    reach = _Reach((geo.n_layers, geo.n_kv_heads, geo.head_dim))
    with open_stream(loaded, Condition(rope), ids.shape[1], chunk=chunk) as stream:
        for w, window in enumerate(ids):
            on_step(Step("measure", w, len(ids), "read the range of K"))
            drain(stream.run(window, (reach,)))
    return reach.absmax
