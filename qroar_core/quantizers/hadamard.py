"""The orthonormal Walsh-Hadamard rotation that runtimes put before a quantized K/V cache.

H_n[i, j] = (-1)^popcount(i & j) / sqrt(n) is symmetric and H H = I, so it is its own inverse. Applied
to q and k alike it leaves every logit q.k unchanged; it spreads one outlier channel over n, which a
scale shared by channels (per token, per block) rounds with a smaller step. A power of two is needed:
llama.cpp (PR 21038, src/llama-kv-cache.cpp `build_input_k_rot`) rotates K in diagonal blocks of the
largest power of two dividing head_dim, V in blocks of 64, and rotates neither unless head_dim is a
multiple of 64. Other head_dims follow the same rule here without the floor: 96 has blocks of 32,
80 of 16. The transform is one matrix product with a cached H: at head_dim <= 256 that is tens of
times faster in torch than log2(n) butterfly passes over memory, and it is what llama.cpp does.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from qroar_core.errors import BadSpec
from qroar_core.maths.meters import onto


def hadamard_block(head_dim: int, block: int | None = None, least: int = 2) -> int:
    """Width of the diagonal blocks that rotate a head; 1 where the head stays unrotated.

    Args:
        head_dim: channels of a head.
        block: the runtime's fixed width (power of two); None means the largest one that divides.
        least: narrower blocks than this are not used at all (llama.cpp: 64).
    Returns:
        A power of two dividing head_dim, or 1.
    Raises:
        BadSpec: head_dim < 1.
    Source: ggml-org/llama.cpp PR 21038 (744c0c73), src/llama-kv-cache.cpp.
    """
    if head_dim < 1:
        raise BadSpec(f"head_dim must be >= 1, got {head_dim}")
    largest = head_dim & -head_dim  # lowest set bit
    if largest < least or (block is not None and head_dim % block):
        return 1
    return block or largest


@lru_cache(maxsize=32)
def hadamard_matrix(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """H_n, orthonormal, natural (Sylvester) order; shape (n, n). Shared: do not write to it.

    Raises:
        BadSpec: n is not a power of two.
    """
    if n < 1 or n & (n - 1):
        raise BadSpec(f"a Hadamard matrix needs a power of two, got {n}")
    signs = torch.ones(1, 1, dtype=torch.float64)
    while signs.shape[0] < n:  # H_2m = [[H_m, H_m], [H_m, -H_m]]
        signs = torch.cat([torch.cat([signs, signs], 1), torch.cat([signs, -signs], 1)])
    return onto((signs / n**0.5).to(dtype), device)


def hadamard(x: Tensor, block: int | None = None) -> Tensor:
    """Rotate the last dimension by H in diagonal blocks; calling it twice gives x back.

    y[..., b n + j] = sum_i x[..., b n + i] H_n[i, j],  n = `block`.

    Args:
        x: floating, shape (..., head_dim).
        block: n, a power of two dividing head_dim; None means the largest one.
    Returns:
        Same shape and dtype as x (x itself when n is 1).
    Raises:
        BadSpec: block is no power of two or does not divide head_dim.
    Source: QuaRot, arXiv 2404.00456, section 4; llama.cpp PR 21038.
    """
    head_dim = x.shape[-1]
    n = hadamard_block(head_dim) if block is None else block
    if n < 1 or head_dim % n:
        raise BadSpec(f"a Hadamard block of {n} does not divide head_dim {head_dim}")
    if n == 1:
        return x
    h = hadamard_matrix(n, x.dtype, x.device)
    if n == head_dim:
        return x @ h
    return (x.unflatten(-1, (head_dim // n, n)) @ h).flatten(-2)  # (..., head_dim/n, n) and back
