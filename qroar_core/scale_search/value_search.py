"""Value maps of every KV head, found on the text that the search of scales has captured.

Layers are independent: each is begun with the best of a few maps from statistics (transforms/value_starts), then moved
by Adam through straight-through rounding, all numbers of the matrix free, one window a step; each KV head keeps the
best of all of these over all windows, identity among them. No forward pass is made.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from qroar_core.maths.value_error import ValueRows
from qroar_core.models.capture import Capture
from qroar_core.progress import OnStep, Step
from qroar_core.scale_search.result import ValueMapReport
from qroar_core.scale_search.state import AdamState
from qroar_core.specs import QuantizerSpec
from qroar_core.transforms.value_starts import value_starts

STEPS = 60
# of an entry per step at the start, falling linearly to zero, as a part of an orthonormal matrix's typical entry
LEARNING_RATE = 0.03
AVERAGED = 3  # the result is the mean of the last STEPS // AVERAGED iterates
LARGEST_CONDITION = 1e3  # past it the rounding of a 16-bit W_V and W_O costs more than a cache could win
DECIMALS = 8  # of the matrices: the map is what its file holds, and the file stays small
SEARCHED = "gradient"  # how a map that no start gave is called


@dataclass(frozen=True, slots=True, eq=False)
class FoundValueMaps:
    """`maps`: (layers, n_kv_heads, value_dim, value_dim), float64, on the host."""

    maps: Tensor
    report: ValueMapReport


def find_value_maps(taken: Capture, spec: QuantizerSpec, on_step: OnStep, kept: Collection[int] = ()) -> FoundValueMaps:
    """The best maps for a V cache that rounds by `spec`; none for layers that are `kept` as they are."""
    layers, found, names, left = len(taken.metric), [], Counter[str](), []
    for layer in range(layers):
        on_step(Step("search", layer, layers, "value maps"))
        if layer in kept:
            heads, _, width = taken.windows[0][layer].v.shape
            found.append(torch.eye(width, dtype=torch.float64).expand(heads, -1, -1))
            continue
        rows = [ValueRows.of(window[layer], taken.metric[layer], taken.scaling, spec) for window in taken.windows]
        maps, chosen, share = _of_layer(rows, shared_step=spec.needs_calibration)
        found.append(maps)
        names.update(chosen)
        left.append(share)
    report = ValueMapReport(error_left=float(torch.cat(left).mean()), chosen=dict(names.most_common()))
    return FoundValueMaps(torch.stack(found), report)


def _of_layer(rows: list[ValueRows], *, shared_step: bool) -> tuple[Tensor, list[str], Tensor]:
    """Maps (n_kv_heads, value_dim, value_dim), the name of each, and the share of identity's error that is left.

    Args:
        shared_step: all heads are rounded by one step, so that they choose together.
    """
    options = value_starts(torch.as_tensor(sum(one.moments() for one in rows)))
    errors = {name: _error(rows, maps) for name, maps in options.items()}
    best = _best(errors, shared_step)
    start = torch.stack([options[name][head] for head, name in enumerate(best)])
    moved = _descended(rows, start)
    keep = torch.linalg.cond(moved) < LARGEST_CONDITION
    options[SEARCHED] = torch.where(keep[:, None, None], moved, start)
    options = {name: maps.cpu().round(decimals=DECIMALS) for name, maps in options.items()}
    errors[SEARCHED] = _error(rows, options[SEARCHED].to(start.device))
    chosen = _best(errors, shared_step)
    maps = torch.stack([options[name][head] for head, name in enumerate(chosen)])
    least = torch.stack([errors[name][head] for head, name in enumerate(chosen)])
    none = errors["identity"]
    return maps, chosen, torch.where(none > 0, least / none.clamp_min(1e-30), 1.0).cpu()


def _error(rows: list[ValueRows], maps: Tensor) -> Tensor:
    """Over all windows, (n_kv_heads,), float64."""
    with torch.no_grad():
        return torch.as_tensor(sum(one.error(maps.to(one.v)).double() for one in rows))


def _best(errors: dict[str, Tensor], shared_step: bool) -> list[str]:
    """The name of least error for each head; the earlier one wins ties, so that identity stays unless one is better."""
    table = torch.stack(list(errors.values()))  # (options, n_kv_heads)
    if shared_step:
        table = table.sum(1, keepdim=True).expand_as(table)
    return [list(errors)[at] for at in table.argmin(0).tolist()]


def _descended(rows: list[ValueRows], start: Tensor) -> Tensor:
    """The averaged iterate of Adam on the logarithm of every head's error."""
    at, tail = AdamState.at(start.to(rows[0].v)), STEPS // AVERAGED
    rate = LEARNING_RATE / math.sqrt(start.shape[-1])
    for step in range(STEPS):
        x = at.x.clone().requires_grad_(True)
        with torch.enable_grad():
            rows[step % len(rows)].error(x).clamp_min(1e-30).log().sum().backward()
        at.x = at.step(torch.as_tensor(x.grad), step, rate * (1 - step / STEPS))
        if step >= STEPS - tail:
            at.average()
    return at.mean.to(start)
