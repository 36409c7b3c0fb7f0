"""MXFP4 as gpt-oss ships it: the experts' matrices in 4-bit floats, a power of two for every 32 inputs.

`blocks` (experts, out, groups, 16) holds two codes a byte, the first in the low nibble; `scales` (experts, out, groups)
the exponent plus 127. A value is E2M1 times a power of two, so bfloat16 holds it exactly. A block scale could follow
powers of two only; the scales of bands never go there: W_Q and W_K are not quantized.
Source: OCP Microscaling Formats 1.0, sections 5.2 and 6.3; huggingface/transformers integrations/mxfp4.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from qroar_core.models.formats.packing import Packing, Parts, require_known

E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # of codes 0 to 7; 8 to 15 are these, negative
BIAS, BYTES = 127, 16  # of an exponent; of a block of 32 codes


def packing(block: Mapping[str, Any], where: str) -> Packing:
    """gpt-oss: the experts alone, a tensor for all of them; attention is bfloat16."""
    require_known(block, ("quant_method", "modules_to_not_convert", "dequantize"), where, "MXFP4")
    return Packing("MXFP4 experts", "blocks", "scales", 1, _shape, experts, ("blocks", "scales"), joint="_", weight="")


def _shape(parts: Parts) -> tuple[int, ...]:
    blocks, scales = parts["blocks"], parts["scales"]
    if (blocks.dtype, scales.dtype) != (torch.uint8, torch.uint8) or blocks.shape != (*scales.shape, BYTES):
        raise ValueError(f"blocks {blocks.dtype} {tuple(blocks.shape)}, scales {scales.dtype} {tuple(scales.shape)}")
    if blocks.ndim != 4 or blocks.numel() == 0:
        raise ValueError(f"blocks have {blocks.ndim} axes, not experts, rows, groups and bytes")
    return blocks.shape[0], blocks.shape[2] * 2 * BYTES, blocks.shape[1]


def experts(parts: Parts) -> Tensor:
    """Weight of every expert, bfloat16 (experts, in, out), as gpt-oss multiplies it.

    Raises:
        ValueError: parts that do not belong together.
    """
    _shape(parts)
    blocks, scales = parts["blocks"], parts["scales"]
    table = torch.tensor((*E2M1, *(-x for x in E2M1)))
    power = (scales.int() - BIAS)[..., None]
    whole = torch.empty(*blocks.shape[:2], blocks.shape[2] * 2 * BYTES, dtype=torch.bfloat16)
    for expert in range(len(blocks)):  # one at a time: float32 of all of them is eight times the file
        codes = torch.stack((blocks[expert] & 15, blocks[expert] >> 4), dim=-1).flatten(-2).long()  # low nibble first
        whole[expert] = torch.ldexp(table[codes], power[expert]).flatten(-2).bfloat16()
    return whole.transpose(1, 2)
