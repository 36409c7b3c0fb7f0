"""One ratio of the range per layer and KV head, for K and for V.

A set of values x that share a scale is rounded on the range c max|x| in place of max|x|; what lies beyond saturates:
    step = c max|x| / qmax,   x^ = step clamp(round(x / step), -qmax, qmax),   c in 1, 0.95 .. 0.5 .
Heads are independent in the error, so that all of them try a ratio at once and the whole grid is walked.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qroar_core.models.condition import ClipRatios
from qroar_core.remedies.prepared import Prepared, RemedyInputs
from qroar_core.remedies.range_choice import RATIOS, AtOption, captured, key_errors, value_errors, why_no_cache
from qroar_core.specs import QuantizerSpec

why_not = why_no_cache


def best_ratios(errors: Tensor) -> Tensor:
    """The ratio of least error for each head, (layers, n_kv_heads), from errors (ratios, layers, n_kv_heads)."""
    return torch.tensor(RATIOS, dtype=torch.float64)[errors.argmin(0)]


def prepare(given: RemedyInputs) -> Prepared:
    """Ratios for the quantizers that take them; the parameters stay."""
    k, v = (spec if spec is not None and spec.takes_clip else None for spec in (given.quant.k, given.quant.v))
    taken = captured(given)
    of_k = None if k is None else best_ratios(key_errors(given, taken, len(RATIOS), _clipped(k)))
    of_v = None if v is None else best_ratios(value_errors(taken, len(RATIOS), _clipped(v)))
    said = [_words(name, found) for name, found in (("K", of_k), ("V", of_v)) if found is not None]
    return Prepared(given.quant, clip=ClipRatios(of_k, of_v), note="; ".join(said))


def _clipped(spec: QuantizerSpec) -> AtOption:
    return lambda option, layer: (spec, torch.tensor(RATIOS[option], dtype=torch.float64))


def _words(name: str, ratios: Tensor) -> str:
    return f"{name} keeps {ratios.min():.0%} to {ratios.max():.0%} of its ranges, {ratios.mean():.0%} on average"
