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

from qroar_core.models.formats.packing import (
    REAL,
    Packing,
    Parts,
    require_known,
    require_matrix,
    require_part,
    require_scales,
    unknown,
)

BLOCK, NESTED_BLOCK = 64, 256  # values of a weight, and absmax of a double-quantized one, that share a scale
LEVELS, NESTED_LEVELS = 16, 256
LARGEST = 127  # the code of a row's largest value
KINDS = ("nf4", "fp4")
DOUBLE = "double quantization rounds its block scales again, in blocks that run across rows"
NESTED = ("weight.nested_absmax", "weight.nested_quant_map")
KEYS = (
    *("quant_method", "load_in_8bit", "load_in_4bit", "_load_in_8bit", "_load_in_4bit", "llm_int8_threshold"),
    *("llm_int8_skip_modules", "llm_int8_enable_fp32_cpu_offload", "llm_int8_has_fp16_weight"),
    *("bnb_4bit_quant_type", "bnb_4bit_use_double_quant", "bnb_4bit_compute_dtype", "bnb_4bit_quant_storage"),
)


def packing(block: Mapping[str, Any], where: str) -> Packing:
    """The format of a config's bitsandbytes settings.

    Raises:
        UnsupportedModel: settings not known here.
    """
    kind = _kind_of(block)
    if not kind:
        raise unknown("its weights are quantized already (bitsandbytes): this kind of it", where)
    require_known(block, KEYS, where, f"bitsandbytes {kind}")
    if kind == "int8":
        return Packing(
            "bitsandbytes int8",
            "weight",
            "SCB",
            0,
            _int8_shape,
            int8_weight,
            ("weight", "SCB"),
            ("weight_format",),
            early=("weight_format",),
            activations=True,
        )
    nested = NESTED if block.get("bnb_4bit_use_double_quant") else ()
    state = f"weight.quant_state.bitsandbytes__{kind}"
    return Packing(
        f"bitsandbytes {kind}",
        "weight",
        "weight.absmax",
        0,
        lambda p: _int4_shape(p, kind),
        lambda p: int4_weight(p, kind),
        ("weight", "weight.absmax", "weight.quant_map", state, *nested),
        early=(state,),
        flat=BLOCK,
        fixed=DOUBLE if nested else "",
    )


def _kind_of(block: Mapping[str, Any]) -> str:
    """int8, nf4 or fp4, as a config's `quantization_config` says; "" for anything else."""
    four = block.get("load_in_4bit", block.get("_load_in_4bit"))
    if block.get("load_in_8bit", block.get("_load_in_8bit")) and not four:
        return "int8"
    kind = block.get("bnb_4bit_quant_type", "fp4")
    return kind if four and isinstance(kind, str) and kind in KINDS else ""


def _int8_shape(parts: Parts) -> tuple[int, int]:
    shape = require_matrix(parts, "weight", (torch.int8,))
    require_part(parts, "SCB", shape[:1], REAL)
    if int(parts.get("weight_format", torch.zeros(1)).sum()):
        raise ValueError("its rows are stored in a layout of a GPU's")
    return shape


def int8_weight(parts: Parts) -> Tensor:
    """float32 (out, in) of an LLM.int8() layer."""
    _int8_shape(parts)
    require_scales("SCB", parts["SCB"].float())
    return parts["weight"].float().mul_((parts["SCB"].float() / LARGEST)[:, None])


def _state_of(parts: Parts, kind: str) -> dict[str, Any]:
    """The table that bitsandbytes keeps beside a layer, as JSON in bytes."""
    state = json.loads(bytes(parts[f"weight.quant_state.bitsandbytes__{kind}"].to(torch.uint8).tolist()))
    if not isinstance(state, dict) or str(state.get("quant_type")) != kind:
        raise ValueError(f"its quant_state is of another kind than {kind}")
    return state


def _int4_shape(parts: Parts, kind: str) -> tuple[int, ...]:
    state = _state_of(parts, kind)
    shape = tuple(int(n) for n in state["shape"])
    if len(shape) != 2 or min(shape) < 1 or int(state["blocksize"]) != BLOCK:
        raise ValueError(f"shape {shape}, blocks of {state['blocksize']}")
    count = math.prod(shape)
    codes, blocks = parts["weight"], -(-count // BLOCK)
    if codes.numel() != -(-count // 2) or codes.dtype != torch.uint8:
        raise ValueError(f"shape {shape}, {codes.numel()} codes of {codes.dtype}")
    require_part(parts, "weight.quant_map", (LEVELS,), REAL)
    nested = "weight.nested_absmax" in parts
    if nested != ("nested_blocksize" in state):
        raise ValueError("its quant_state and its config disagree about double quantization")
    require_part(parts, "weight.absmax", (blocks,), (torch.uint8,) if nested else REAL)
    if nested:
        if int(state["nested_blocksize"]) != NESTED_BLOCK or not math.isfinite(float(state["nested_offset"])):
            raise ValueError(f"double-quantized scales in blocks of {state['nested_blocksize']}")
        require_part(parts, "weight.nested_absmax", (-(-blocks // NESTED_BLOCK),), REAL)
        require_part(parts, "weight.nested_quant_map", (NESTED_LEVELS,), REAL)
    return shape


def int4_weight(parts: Parts, kind: str) -> Tensor:
    """float32 (out, in) of an NF4 or FP4 layer."""
    shape = _int4_shape(parts, kind)
    count = math.prod(shape)
    packed, table = parts["weight"].flatten(), parts["weight.quant_map"].float()
    absmax = _absmax(parts, _state_of(parts, kind))
    codes = torch.stack((packed >> 4, packed & 15), dim=1).flatten()[:count].int()
    return table[codes].mul_(absmax.repeat_interleave(BLOCK)[:count]).view(shape)


def _absmax(parts: Parts, state: Mapping[str, Any]) -> Tensor:
    absmax = parts["weight.absmax"]
    if "weight.nested_absmax" not in parts:
        require_scales("absmax", absmax.float())
        return absmax.float()
    outer = parts["weight.nested_absmax"].float().repeat_interleave(NESTED_BLOCK)[: len(absmax)]
    return parts["weight.nested_quant_map"].float()[absmax.int()] * outer + float(state["nested_offset"])
