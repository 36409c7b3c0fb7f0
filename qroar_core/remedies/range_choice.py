"""Which range the quantizer of each head or layer keeps: of a few, the one of least error on captured text.

No forward pass an option: q, k and v are captured once, unquantized, as a search of scales does it. K is judged by the
search's attention error metric with V exact, V by the error of the attention output behind W_O with K exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from qroar_core.errors import BadSpec
from qroar_core.maths.attention_error import ErrorSetup, attention_error
from qroar_core.maths.value_error import ValueRows
from qroar_core.models.capture import Capture, capture
from qroar_core.models.loaded import LoadedModel
from qroar_core.quantizers.exact_keys import first_rounded_row
from qroar_core.remedies.prepared import RemedyInputs
from qroar_core.setting import Setting
from qroar_core.specs import QuantizerSpec, QuantSpec

RATIOS = tuple(1 - step / 20 for step in range(11))  # 1, 0.95 .. 0.5: the whole range first, so that it wins ties

Rounding = tuple[QuantizerSpec, Tensor | None]  # a quantizer and the share of its ranges that is kept
AtOption = Callable[[int, int], Rounding]  # from an option and a layer


def captured(given: RemedyInputs) -> Capture:
    """q, k and v of as many calibration windows as a search reads, q at as many rows."""
    search = given.search
    return capture(
        *(given.loaded, given.rope, given.ids[: search.windows], search.query_rows),
        chunk=given.chunk,
        seed=search.seed,
        on_step=given.on_step,
        first_row=first_rounded_row(given.quant),
    )


def key_errors(given: RemedyInputs, taken: Capture, options: int, at: AtOption) -> Tensor:
    """How far K rounded by each option moves attention, over all windows and rows; (options, layers, n_kv_heads)."""
    geo = given.loaded.geometry
    setup = ErrorSetup(
        *(QuantSpec(qk=given.quant.qk), "symmetric", torch.full((geo.head_dim,), -1), taken.scaling, geo.pairing),
        *(taken.cos, taken.sin, given.search.error_metric),
    )
    identity = torch.zeros(geo.n_kv_heads, 1)

    def error(option: int, index: int, window: int) -> Tensor:
        spec, clip = at(option, index)
        here = replace(setup, quant=replace(setup.quant, k=spec), clip=clip)
        return attention_error(taken.windows[window][index], identity, taken.metric[index], here).sum(-1)

    return _table(taken, options, error)


def value_errors(taken: Capture, options: int, at: AtOption) -> Tensor:
    """How far V rounded by each option moves the attention output, as `key_errors`."""

    def error(option: int, index: int, window: int) -> Tensor:
        (spec, clip), layer = at(option, index), taken.windows[window][index]
        rows = replace(ValueRows.of(layer, taken.metric[index], taken.scaling, spec), clip=clip)
        return rows.error(torch.eye(layer.v.shape[-1]).to(layer.v).expand(len(layer.v), -1, -1))

    return _table(taken, options, error)


def _table(taken: Capture, options: int, error: Callable[[int, int, int], Tensor]) -> Tensor:
    windows, layers = range(len(taken.windows)), range(len(taken.metric))

    def over_windows(option: int, layer: int) -> Tensor:
        return torch.stack([error(option, layer, w).double().cpu() for w in windows]).sum(0)

    with torch.no_grad():
        return torch.stack([torch.stack([over_windows(o, layer) for layer in layers]) for o in range(options)])


def why_no_cache(loaded: LoadedModel, setting: Setting) -> str:
    """Why the model has no cache that these quantizers round; empty where it has."""
    try:
        loaded.geometry.require_cache(setting.quant)
    except BadSpec as refusal:
        return refusal.what
    return ""
