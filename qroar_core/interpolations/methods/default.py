"""The checkpoint's own RoPE, exactly as it ships."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qroar_core.interpolations.base import Interpolation, Method, RopeParameterInputs

if TYPE_CHECKING:
    from torch import Tensor


def _parameters(asked: RopeParameterInputs) -> dict[str, Any]:
    return dict(asked.native)


def _slope(at: Interpolation) -> Tensor:
    """Plain RoPE has no factor. A checkpoint's own block is its method's (`interpolations/checkpoint_rope.py`)."""
    return at.native.double() * 0


METHOD = Method("the checkpoint's own", 0, "arXiv 2104.09864", _parameters, _slope)
