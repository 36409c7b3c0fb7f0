"""One static range per layer for K and for V: the present one, or a share of the calibrated one.

With A the largest magnitude that calibration text shows in a layer, over all of its heads, options are the range of
the present scale where the cache has one (fp8: scale 1), and c A for c in 1, 0.95 .. 0.5; what lies beyond saturates.
The scale that a runtime stores is the range over the largest code (448 for e4m3).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from qroar_core.models.calibrate import calibrated
from qroar_core.models.condition import Condition
from qroar_core.quantizers.grids import GRIDS
from qroar_core.remedies.prepared import Prepared, RemedyInputs
from qroar_core.remedies.range_choice import RATIOS, AtOption, captured, key_errors, value_errors, why_no_cache
from qroar_core.specs import QuantizerSpec

why_not = why_no_cache


def prepare(given: RemedyInputs) -> Prepared:
    """Ranges in place of those that the comparison calibrates, from the same window; the parameters stay."""
    static = {name: spec for name in ("k", "v") if (spec := getattr(given.quant, name)) and spec.scale == "tensor"}
    quant = replace(given.quant, **{name: replace(spec, static_scale=None) for name, spec in static.items()})
    ranges = calibrated(given.loaded, Condition(given.rope, quant), given.ids[:1], given.chunk).static
    assert ranges is not None  # a scale without a number of its own is calibrated
    taken, said = captured(given), []
    for name, spec in static.items():
        present = None if spec.static_scale is None else spec.static_scale * largest_code(spec)
        options = ranges_to_try(getattr(ranges, name), present)
        at = _held(spec, options)
        errors = key_errors(given, taken, len(options), at) if name == "k" else value_errors(taken, len(options), at)
        best = best_ranges(options, errors)
        ranges, scales = replace(ranges, **{name: best}), best / largest_code(spec)
        said.append(f"{name}_scale {scales.min():.3g} to {scales.max():.3g}")
    return Prepared(quant, static=ranges, note=", ".join(said))


def largest_code(spec: QuantizerSpec) -> float:
    """absmax / scale."""
    return GRIDS[spec.levels].largest_code(spec.bits)


def ranges_to_try(absmax: Tensor, present: float | None) -> Tensor:
    """Options for each layer, (options, layers), float64: the present range first, where there is one.

    Args:
        absmax: calibrated, (layers,).
    """
    shares = torch.tensor(RATIOS, dtype=torch.float64)[:, None] * absmax.double().cpu()
    return shares if present is None else torch.cat((torch.full_like(shares[:1], present), shares))


def best_ranges(options: Tensor, errors: Tensor) -> Tensor:
    """The range of least error over a layer's heads, (layers,), float64; the earlier one wins ties.

    Args:
        options: (options, layers). errors: (options, layers, n_kv_heads).
    """
    return options.gather(0, errors.sum(-1).argmin(0)[None])[0]


def _held(spec: QuantizerSpec, options: Tensor) -> AtOption:
    """A layer's quantizer with its range fixed; a layer of zeros keeps its zeros whatever the scale."""
    scales = (options / largest_code(spec)).clamp_min(torch.finfo(torch.float32).tiny).tolist()
    return lambda option, layer: (replace(spec, static_scale=scales[option][layer]), None)
