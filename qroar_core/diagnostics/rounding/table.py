"""From meters to the errors of coordinates and lengths of the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from qroar_core.diagnostics.rounding.measure import RoundingMeter
from qroar_core.diagnostics.rounding.result import RoundedTensor, Roundings
from qroar_core.diagnostics.sample import Sample
from qroar_core.diagnostics.tensor_lists import listed

BY_HEAD = ("largest", "rms", "relative_to_value", "relative_to_vector", "norm_mean", "norm_rms", "clipped", "zeroed")


def roundings_of(
    k: Sequence[RoundingMeter], q: Sequence[RoundingMeter], still: Sequence[int] = (), q_sampled: bool = False
) -> Roundings:
    """Of every layer's meters; `q` empty where q does not change, `still` the layers without RoPE.

    Args:
        q_sampled: whether the errors of q are of sampled rows alone.
    """
    first = k[0]
    return Roundings(
        k=_tensor(k, still),
        q=_tensor(q, still) if q else None,
        q_rows=q[0].tokens if q and q_sampled else None,
        sample=first.blind.sample(first.tokens) if first.blind else Sample(tokens=first.tokens),
    )


def _tensor(meters: Sequence[RoundingMeter], still: Sequence[int]) -> RoundedTensor:
    found = [m.result() for m in meters]
    fields: dict[str, Any] = {name: listed(torch.stack([getattr(f, name) for f in found])) for name in BY_HEAD}
    for name in ("largest", "rms"):
        parts = torch.stack([getattr(f, f"band_{name}") for f in found])  # (layers, bands + 1)
        for layer in still:  # no channel of it turns
            whole = getattr(found[layer], name)
            parts[layer, :-1] = torch.nan
            parts[layer, -1] = whole.amax() if name == "largest" else whole.square().mean().sqrt()
        fields |= {f"band_{name}": listed(parts[:, :-1]), f"rest_{name}": listed(parts[:, -1])}
    drawn = [[null.result() for null in m.nulls] for m in meters]
    nothing = torch.full((len(found[0].rms),), torch.nan, dtype=torch.float64)
    null_mean = [torch.stack([mean for mean, _ in draws]).mean(0) if draws else nothing for draws in drawn]
    null_rms = [torch.stack([r for _, r in draws]).square().mean(0).sqrt() if draws else nothing for draws in drawn]
    return RoundedTensor(
        **fields, null_norm_mean=listed(torch.stack(null_mean)), null_norm_rms=listed(torch.stack(null_rms))
    )
