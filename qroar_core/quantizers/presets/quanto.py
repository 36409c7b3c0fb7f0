"""transformers: QuantizedCache, backend quanto, nbits 4 and 2.

Defaults axis_key = axis_value = 0, q_group_size 64, residual_length 128. With axis 0 quanto's group() reshapes the (1,
heads, tokens, head_dim) tensor to (-1, 64): sets of 64 neighbouring channels of one token, not the "per-channel" of the
docstring. MaxOptimizer: scale (max-min)/(2^nbits - 1), float shift -min.
"""

from __future__ import annotations

from qroar_core.quantizers.preset import KVPreset, Runtime
from qroar_core.quantizers.spec import QuantizerSpec


def _quanto(bits: int) -> KVPreset:
    spec = QuantizerSpec(bits, scale="block", levels="affine", group_size=64, scale_dtype="input", residual=128)
    return KVPreset(
        spec,
        spec,
        "huggingface/transformers src/transformers/cache_utils.py QuantizedLayer, QuantoQuantizedLayer; "
        "huggingface/optimum-quanto tensor/grouped.py, tensor/optimizers/max_optimizer.py",
        "The first forward reads full-precision K/V, all of which is rounded behind it, and later flushes round "
        "the whole cache again; here a prompt is read as if its tokens came one at a time, in aligned blocks of "
        "128, each rounded once. head_dim must be a multiple of 64 (quanto lets a group "
        "run across tokens).",
        asked=f'transformers `cache_implementation="quantized"`, `backend: quanto`, `nbits: {bits}`',
        what="affine groups of 64 channels of a token; the newest tokens exact",
    )


RUNTIME = Runtime(30, {f"quanto{bits}": _quanto(bits) for bits in (4, 2)})  # qint4, qint2: it takes no others
