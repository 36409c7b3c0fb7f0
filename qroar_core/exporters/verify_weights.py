"""The parameters of a reloaded folder against the source's with the transform inside.

Scales that are symmetric, angles and maps change no logit of a model that is not quantized, so that logits cannot tell
whether they are there. A number may differ by what its format rounds, and of four bits by half a step of its group.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from qroar_core.exporters.check import Check
from qroar_core.exporters.w4a16 import linear_layers
from qroar_core.exporters.written_rope import written_parameters
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.own_dtype import own_dtype
from qroar_core.transforms.scales import Scales

STEP = {torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10, torch.float32: 2.0**-22, torch.float64: 2.0**-22}
TINY = {torch.float16: 2.0**-24}  # a step at its small end
PRODUCT = 2.0**-22  # of a tensor's largest number: what a mix of rows in float32 loses where its terms cancel
HALF_STEP = 0.55  # of a group of four bits, whose step is rounded to 16 bits itself


def weights(
    source: LoadedModel, again: LoadedModel, scales: Scales | None, factor: float, note: dict[str, Any]
) -> Check:
    """One check: the largest distance of a number from where it belongs, in what rounding explains.

    Args:
        factor: what q and k were multiplied by beside the scales (exporters.written_rope.WrittenRope).
        note: qroar.json; `weights` of it says what the linear layers were rounded to.
    Raises:
        BadScales: scales that do not fit the source.
    """
    group = note["weights"]["group_size"] if note.get("weights") else 0
    packed = {f"{name}.weight" for name in linear_layers(source, group)} if group else set()
    dtype = own_dtype(again) or torch.bfloat16  # of codes: their scales have 16 bits
    known = {name: p.data for name, p in source.model.named_parameters()}
    known |= {name: p for name, p in written_parameters(source, scales, factor).items() if p is not None}
    worst, where, count = 0.0, "", 0
    for name, parameter in again.model.named_parameters():
        found = parameter.data.float()
        wanted = known[name].float() if name in known else torch.zeros_like(found)  # a bias that came with K's
        if wanted.shape != found.shape:
            return Check("weights against the source's", f"{name} has another shape", False)
        if name in packed:
            far = _in_steps(found, wanted, group)
        else:
            least = TINY.get(dtype, 0.0) + PRODUCT * float(wanted.abs().amax())
            far = _ratio((found - wanted).abs(), STEP[dtype] * wanted.abs() + least)
        count += 1
        if not far <= worst:
            worst, where = far, name
    answer = f"{count} tensors, at most {worst:.3f} of what rounding explains"
    return Check("weights against the source's", answer + (f", in {where}" if not worst <= 1 else ""), worst <= 1)


def _in_steps(found: Tensor, wanted: Tensor, group_size: int) -> float:
    """Distance in what a group's step, its largest number over 7.5, explains."""
    groups = [x.unflatten(1, (-1, group_size)) for x in (found, wanted)]
    step = groups[1].abs().amax(-1, keepdim=True) / 7.5
    return _ratio((groups[0] - groups[1]).abs(), HALF_STEP * step)


def _ratio(distance: Tensor, allowed: Tensor) -> float:
    """The largest ratio; 0 over 0 is none, and what is no number is infinite."""
    ratio = torch.where(distance == 0, 0.0, distance / allowed)
    return float(ratio.nan_to_num(nan=torch.inf, posinf=torch.inf).max())
