"""Rows of W_Q or W_K, or of their biases, with the channels of each head turned or mixed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from qroar_core.maths.rope import Pairing
from qroar_core.transforms.scales import turned

if TYPE_CHECKING:  # a GGUF file is copied without transformers
    from qroar_core.models.families import QKSlot


def turned_rows(rows: Tensor, slot: QKSlot, heads: int, angles: Tensor, pairing: Pairing) -> Tensor:
    """Rows (heads * channels, in) of a weight, or a bias (heads * channels,), with their pairs turned."""
    each = angles[:1] if slot.shared else angles.repeat_interleave(heads // angles.shape[0], 0)
    channels_last = rows.view(len(each), rows.shape[0] // len(each), -1).mT
    return turned(channels_last, each.to(rows), pairing).mT.reshape(rows.shape)


def mixed_rows(rows: Tensor, slot: QKSlot, heads: int, matrix: Tensor) -> Tensor:
    """Rows (heads * channels, in) of a weight, or a bias (heads * channels,), with the channels of each head mixed."""
    each = matrix[:1] if slot.shared else matrix.repeat_interleave(heads // matrix.shape[0], 0)
    by_head = rows.view(len(each), rows.shape[0] // len(each), -1).double()
    channels = by_head.shape[1]  # of a shared key: the rotated ones
    return (each[:, :channels, :channels].to(rows.device) @ by_head).to(rows.dtype).reshape(rows.shape)
