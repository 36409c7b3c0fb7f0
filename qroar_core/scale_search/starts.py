"""Where a search begins: what statistics of the calibration text alone say."""

from __future__ import annotations

import torch
from torch import Tensor

from qroar_core.models.capture import Capture
from qroar_core.scale_search.key_constants import KeyConstants
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.transforms.baselines import mad_clipped, smooth_attention
from qroar_core.transforms.scales import pooled


def starts(problem: SearchProblem, taken: Capture) -> dict[str, Tensor]:
    """Identity, the statistics-only scales, these with maps that spread each group, and without K's constant part.

    Returns:
        Points of the search by name, (layers, n_kv_heads, bands and what is behind them).
    """
    band = problem.loaded.geometry.channel_band(problem.bands)
    ranges = torch.stack([taken.k_absmax[..., band == b].amax(-1) for b in range(len(problem.bands))], -1)
    named = {"smooth_attention": smooth_attention(ranges), "mad": mad_clipped(ranges)}
    logs = {name: pooled(g.log2().float(), problem.spec.granularity) for name, g in named.items()}
    if problem.behind:
        logs = {name: torch.cat((x, x.new_zeros(*x.shape[:2], problem.behind)), dim=-1) for name, x in logs.items()}
    zero = torch.zeros_like(logs["mad"])
    if problem.spec.mode == "shared":  # a temperature: K's range says nothing about it
        return {
            "identity": zero,
            **{name: zero.clone() for name in logs},
            **_offsets(problem, taken, {"identity": zero}),
        }
    equal = {"equal ranges": 2 * logs["smooth_attention"]}
    simple = {"identity": zero, "smooth_attention": logs["smooth_attention"]}
    if problem.groups:
        equal |= _spread(problem, simple, taken.k_second_moment)
    return {"identity": zero, **logs, **equal, **_offsets(problem, taken, simple)}


def _spread(problem: SearchProblem, points: dict[str, Tensor], moment: Tensor) -> dict[str, Tensor]:
    """These points with maps that spread K evenly; moment: as `Capture.k_second_moment`."""
    moment, found = pooled(moment.flatten(2), problem.spec.granularity).view_as(moment), {}
    for name, x in points.items():
        parts = problem.parts(x)
        maps = tuple(problem.even_maps(moment, parts.log2_g, problem.groups))
        found[f"{name}, spread"] = parts._replace(matrices=maps).point(problem.groups)
    return found


def _offsets(problem: SearchProblem, taken: Capture, points: dict[str, Tensor]) -> dict[str, Tensor]:
    """These points, with maps where there are any, and K's constant part taken off; none where none is searched."""
    if not problem.offset:
        return {}
    geo, constants = problem.loaded.geometry, KeyConstants.of(taken.windows)
    band = geo.channel_band(problem.bands)
    if problem.groups:
        points = _spread(problem, points, constants.centred(taken.k_second_moment))
    found = {}
    for name, x in points.items():
        parts = problem.parts(x)
        middle = constants.middles(parts, problem.groups, band, geo.rotary_dim, geo.pairing)
        for what, constant in (("less its mean", constants.mean), ("less its middle", middle)):
            off = constants.before_rope(constant).to(x)
            found[f"{name}, {what}"] = parts._replace(offset=off).point(problem.groups)
    return found
