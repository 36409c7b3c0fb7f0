"""Ranges for quantizers with one static scale per layer, measured on calibration text.

A per-tensor scale in a real runtime is fixed before serving. It is measured here under the very
condition it will serve (same RoPE, same scales), because rescaling changes the range. A checkpoint that brings
scales of its own is served with those, as long as nothing of it is changed.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from qroar_core.maths.meters import onto
from qroar_core.maths.rope import unrotate
from qroar_core.maths.scatter_gather import gathered
from qroar_core.models.condition import StaticRange
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.stream import AttentionTap, Condition, drain, open_stream
from qroar_core.quantizers.fake_quantize import calibrated_coordinates
from qroar_core.quantizers.presets import KV_PRESETS
from qroar_core.specs import QuantSpec, RopeSpec

FROM_CHECKPOINT = KV_PRESETS["fp8-calibrated"]


def needs_calibration(quant: QuantSpec) -> bool:
    """True when some quantizer has one static scale to be measured."""
    return any(s is not None and s.needs_calibration for s in (quant.k, quant.v, quant.qk))


class _Ranges:
    """Running absmax of every layer, each where the layer is: nothing comes to the host before the pass is over."""

    def __init__(self, n_layers: int, quant: QuantSpec, pairing: str) -> None:
        self.quant, self.pairing = quant, pairing
        self.k, self.v, self.q, self.k_active = ([torch.zeros(())] * n_layers for _ in range(4))

    def on_attention(self, tap: AttentionTap) -> None:
        k = tap.k
        if self.quant.k is not None and self.quant.k.before_rope:
            k = unrotate(k, tap.cos, tap.sin, self.pairing)  # type: ignore[arg-type]
        for table, x, spec in (
            (self.k, k, self.quant.k),
            (self.v, tap.v, self.quant.v),
            (self.q, tap.q, self.quant.qk),
            (self.k_active, tap.k, self.quant.qk),
        ):
            if spec is not None:
                axes = calibrated_coordinates(x, spec)
                table[tap.layer] = torch.maximum(onto(table[tap.layer], axes.device), axes.abs().max())

    def on_layer(self, layer: int, row: int, start: int, hidden: Tensor) -> None:
        pass


def calibrated(loaded: LoadedModel, condition: Condition, ids: Tensor, chunk: int = 512) -> Condition:
    """`condition` with its static ranges measured on ids (B, T); unchanged when none is needed.

    Those of an fp8 cache are the checkpoint's own where it brings them and runs as it is.
    """
    quant, own = condition.quant, _of_checkpoint(loaded, condition)
    if not needs_calibration(quant):
        return condition
    rest = QuantSpec(k=quant.k if own.k is None else None, v=quant.v if own.v is None else None, qk=quant.qk)
    if not needs_calibration(rest):
        return replace(condition, static=own)
    ids = ids[None] if ids.ndim == 1 else ids
    ranges = _Ranges(loaded.geometry.n_layers, quant, loaded.geometry.pairing)
    plain = replace(condition, quant=QuantSpec(weights=quant.weights, activations=quant.activations), static=None)
    with open_stream(loaded, plain, ids.shape[1], chunk=chunk, batch=ids.shape[0]) as stream:
        drain(stream.run(ids, (ranges,)))
    tables = ranges.k, ranges.v, ranges.q, ranges.k_active
    found = StaticRange(*(gathered([x.float() for x in table]) for table in tables))
    brought = {name: table for name, table in (("k", own.k), ("v", own.v)) if table is not None}
    return replace(condition, static=replace(found, **brought))


def _of_checkpoint(loaded: LoadedModel, condition: Condition) -> StaticRange:
    """Ranges of the checkpoint's own scales for the quantizers that read them; none where anything is changed."""
    own, scales = loaded.cache_scales, condition.scales
    as_it_is = condition.rope == RopeSpec() and (scales is None or scales.is_identity) and loaded.applied is None
    if own is None or not as_it_is:
        return StaticRange()
    return StaticRange(
        k=own.k if condition.quant.k == FROM_CHECKPOINT.k else None,
        v=own.v if condition.quant.v == FROM_CHECKPOINT.v else None,
    )
