"""bitsandbytes folders: LLM.int8() rows, and the 4-bit blocks (NF4, FP4) of a weight laid out flat.

int8: w = code * SCB / 127, one SCB an output row. 4 bits: w = table[code] * absmax, one absmax per 64 values of the
flattened weight, the first of two values in the high nibble. Where 64 divides the inputs no block runs across
rows, and a row times g is its absmax times g. Double quantization rounds the absmax to 8 bits in blocks of 256
that do run across rows: such a folder is read, but its rows cannot be scaled.
Source: bitsandbytes-foundation/bitsandbytes functional.py QuantState.as_dict and quantize_4bit, nn/modules.py
Int8Params; huggingface/transformers quantizers/quantizer_bnb_{4,8}bit.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

BLOCK, NESTED_BLOCK = 64, 256  # values of a weight, and absmax of a double-quantized one, that share a scale
LEVELS = 16
KINDS = ("nf4", "fp4")
DOUBLE = "double quantization rounds its block scales again, in blocks that run across rows"


def kind_of(block: Mapping[str, Any]) -> str:
    """int8, nf4 or fp4, as a config's `quantization_config` says; "" for anything else."""
    if block.get("load_in_8bit") and not block.get("load_in_4bit"):
        return "int8"
    kind = block.get("bnb_4bit_quant_type", "fp4")
    return kind if block.get("load_in_4bit") and kind in KINDS else ""


def parts_of(kind: str) -> tuple[str, ...]:
    """Every suffix that belongs to a layer, codes first and scales second."""
    if kind == "int8":
        return ("weight", "SCB", "weight_format")
    nested = ("nested_absmax", "nested_quant_map")
    return ("weight", *(f"weight.{p}" for p in ("absmax", "quant_map", *nested, f"quant_state.bitsandbytes__{kind}")))


def int8_weight(parts: Mapping[str, Tensor]) -> Tensor:
    """float32 (out, in) of an LLM.int8() layer."""
    codes, largest = parts["weight"], parts["SCB"].float()
    if codes.dtype != torch.int8 or codes.ndim != 2 or largest.shape != codes.shape[:1]:
        raise ValueError(f"codes {codes.dtype} {tuple(codes.shape)}, SCB {tuple(largest.shape)}")
    if int(parts.get("weight_format", torch.zeros(1)).sum()):
        raise ValueError("its rows are stored in a layout of a GPU's")
    return codes.float() * (largest / 127)[:, None]


def int4_weight(parts: Mapping[str, Tensor], kind: str) -> Tensor:
    """float32 (out, in) of an NF4 or FP4 layer."""
    state = json.loads(bytes(parts[f"weight.quant_state.bitsandbytes__{kind}"].to(torch.uint8).tolist()))
    shape = tuple(int(n) for n in state["shape"])
    count = math.prod(shape)
    packed, table = parts["weight"].flatten(), parts["weight.quant_map"].float()
    if len(shape) != 2 or min(shape) < 1 or int(state["blocksize"]) != BLOCK or packed.dtype != torch.uint8:
        raise ValueError(f"shape {shape}, blocks of {state['blocksize']}, codes {packed.dtype}")
    absmax = _absmax(parts, state)
    if packed.numel() != -(-count // 2) or absmax.shape != (-(-count // BLOCK),) or table.shape != (LEVELS,):
        raise ValueError(f"shape {shape}, {packed.numel()} bytes of codes, absmax {tuple(absmax.shape)}")
    codes = torch.stack((packed >> 4, packed & 15), dim=1).flatten()[:count].long()
    return (table[codes] * absmax.repeat_interleave(BLOCK)[:count]).view(shape)


def _absmax(parts: Mapping[str, Tensor], state: Mapping[str, Any]) -> Tensor:
    absmax = parts["weight.absmax"]
    if "weight.nested_absmax" not in parts:
        return absmax.float()
    if absmax.dtype != torch.uint8 or int(state["nested_blocksize"]) != NESTED_BLOCK:
        raise ValueError(f"double-quantized scales {absmax.dtype} in blocks of {state['nested_blocksize']}")
    outer = parts["weight.nested_absmax"].float().repeat_interleave(NESTED_BLOCK)[: len(absmax)]
    return parts["weight.nested_quant_map"].float()[absmax.long()] * outer + float(state["nested_offset"])
