"""What a cache that a spec describes costs: bits of codes and of the numbers kept beside them."""

from __future__ import annotations

from qroar_core.quantizers.grids import GRIDS
from qroar_core.quantizers.spec import QuantizerSpec

SCALE_BITS = {"float32": 32, "float16": 16, "bfloat16": 16}
MODEL_BITS = 16  # of a number in a cache that is not quantized, and of scales in the model's dtype


def bytes_per_token(spec: QuantizerSpec | None, head_dim: int, model_bits: int = MODEL_BITS) -> float:
    """Bytes that one token of K, or of V, takes in one layer and KV head; the newest exact tokens left out.

    Args:
        spec: None: not quantized.
        head_dim: channels.
        model_bits: of the model's own numbers.
    """
    if spec is None:
        return head_dim * model_bits / 8
    levels, size = GRIDS[spec.levels], spec.group_size or 1
    scales = {"token": 1.0, "block": head_dim / size, "channel": head_dim / size, "tensor": 0.0}[spec.scale]
    width = levels.stored_bits or SCALE_BITS.get(spec.scale_dtype, model_bits)
    return (head_dim * spec.bits + scales * levels.stored * width) / 8
