"""Fused attention kernels of torch that give the logsumexp with the output, and where each of them can be used.

All are called alike: q (rows, heads, t, head_dim), k and v (rows, heads, keys, ...), whether a query sees only keys up
to its own place (then there are as many keys as queries), and the scale of the logits. Each reads its tensors by their
strides, so a head of k and v may stand for several by a stride of 0. Limits: torch's flash_api.cpp (`mha_fwd`) and
kernel_forward.h (`check_supported`); shapes of what comes back: torch/_meta_registrations.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.backends.cuda import SDPAParams, can_use_efficient_attention, can_use_flash_attention

ALIGNED = 16  # bytes that the CUDA kernels load at once
ATEN: Any = torch.ops.aten


def cpu_flash(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
    """torch's flash attention on a CPU."""
    out, lse = ATEN._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal, scale=scale)
    return out, lse


def cuda_flash(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
    """FlashAttention 2 as torch builds it; the logsumexp is float32, (rows, heads, t), in nats."""
    return ATEN._scaled_dot_product_flash_attention(q, k, v, 0.0, causal, scale=scale)[:2]


def cuda_efficient(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
    """The memory-efficient kernel; its logsumexp is padded to whole blocks of 32 rows by infinities, cut off here."""
    out, lse = ATEN._scaled_dot_product_efficient_attention(q, k, v, None, True, 0.0, causal, scale=scale)[:2]
    return out, lse.narrow(-1, 0, q.shape[-2])


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel and what it takes."""

    device: str
    dtypes: tuple[torch.dtype, ...]
    call: Callable[[Tensor, Tensor, Tensor, bool, float], tuple[Tensor, Tensor]]
    usable: Callable[[SDPAParams], bool] | None = None  # torch's own answer: this GPU, and what a person switched off
    aligned: bool = False  # every row of a head begins at a multiple of ALIGNED bytes
    largest_head: int | None = None
    values_as_wide: bool = True  # v has as many channels a head as k

    def takes(self, q: Tensor, k: Tensor, v: Tensor) -> bool:
        """Can it attend queries like q over keys and values like k and v?"""
        if q.device.type != self.device or q.dtype not in self.dtypes or len({x.dtype for x in (q, k, v)}) > 1:
            return False
        if self.values_as_wide and k.shape[-1] != v.shape[-1]:
            return False
        if self.largest_head is not None and q.shape[-1] > self.largest_head:
            return False
        if self.aligned and not all(map(_is_aligned, (q, k, v))):
            return False
        return self.usable is None or self.usable(SDPAParams(q, q, q, None, 0.0, False, False))


FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
KERNELS = (  # the first that takes them
    Kernel("cpu", FLOATS, cpu_flash),
    Kernel("cuda", (torch.bfloat16, torch.float16), cuda_flash, can_use_flash_attention, True, 256),
    Kernel("cuda", FLOATS[1:], cuda_efficient, can_use_efficient_attention, True, values_as_wide=False),
)


def kernel_for(q: Tensor, k: Tensor, v: Tensor) -> Kernel | None:
    """The kernel for queries like q (B, n_heads, t, head_dim) over a cache like k and v, if torch has one here."""
    return next((kernel for kernel in KERNELS if kernel.takes(q, k, v)), None)


def joined(kernel: Kernel, q: Tensor, k: Tensor, v: Tensor, first: int, scale: float) -> Tensor:
    """Keys before `first`, which every query sees, and the queries' own in a triangle, joined by their logsumexp.

    softmax over both = a mean of the two outputs, the early one with weight sigmoid(lse_early - lse_own).
    KV heads become rows of the batch, so that neither cache is copied: earlier keys see the query heads of their KV
    head as more queries, and are read once; in the triangle the KV head stands for each of them.

    Args:
        q: (B, n_heads, t, head_dim). k, v: (B, n_kv_heads, first + t, ...), views of a cache.
    """
    rows, group, t = q.shape[0] * k.shape[1], q.shape[1] // k.shape[1], q.shape[2]
    heads = q.reshape(rows, group, t, q.shape[-1])
    k, v = (x.flatten(0, 1).unsqueeze(1) for x in (k, v))  # (rows, 1, keys, ...)
    early_k, early_v = (x.narrow(2, 0, first) for x in (k, v))
    own_k, own_v = (x.narrow(2, first, t).expand(-1, group, -1, -1) for x in (k, v))
    early, early_lse = kernel.call(heads.reshape(rows, 1, group * t, -1), early_k, early_v, False, scale)
    own, own_lse = kernel.call(heads, own_k, own_v, True, scale)
    weight = (early_lse.reshape(own_lse.shape) - own_lse).sigmoid().unsqueeze(-1)
    return own.lerp(early.reshape(own.shape), weight.to(own.dtype)).reshape(*q.shape[:-1], v.shape[-1])


def _is_aligned(x: Tensor) -> bool:
    numbers = ALIGNED // x.element_size()
    return x.stride(-1) == 1 and all(n % numbers == 0 for n in (x.shape[-1], x.storage_offset(), *x.stride()[:-1]))
