"""Linear layers in 8-bit floats (E4M3), as ModelOpt, DeepSeek, transformers, AutoFP8 and FBGEMM write them.

A weight is its codes times a scale: one for the whole tensor, one an output row, or one a block of (outputs,
inputs). The multiplier is called `weight_scale`, and `weight_scale_inv` by DeepSeek and transformers. These formats
also keep scales for activations; nothing here quantizes activations by them, and a model's note says so.
Source: NVIDIA/TensorRT-Model-Optimizer torch/export/quant_utils.py; huggingface/transformers
integrations/finegrained_fp8.py and fbgemm_fp8.py; vllm-project/vllm layers/quantization/fp8.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from qroar_core.models.formats.packing import (
    REAL,
    Packing,
    Parts,
    dequantized,
    require_known,
    require_matrix,
    require_part,
    require_scales,
    unknown,
)

CODES = (torch.float8_e4m3fn,)
POWERS = torch.float8_e8m0fnu  # scales that are powers of two, one byte each
SHARED = {
    "tensor": "one weight scale a tensor: rows of several bands share it",
    "block": "one weight scale a block of rows: rows of several bands share it",
    "channel": "",
    "group": "",
}
MODELOPT = {"FP8": "tensor", "FP8_PER_CHANNEL_PER_TOKEN": "channel", "FP8_PB_WO": "block"}
MODELOPT_BLOCK = (128, 128)
KEYS_READ = (
    "quant_method",
    "activation_scheme",
    "weight_block_size",
    "modules_to_not_convert",
    "ignored_layers",
    "fmt",
    "scale_fmt",
    "expert_dtype",
    "dequantize",
    "kv_cache_scheme",
)


def modelopt(block: Mapping[str, Any], where: str) -> list[Packing]:
    """ModelOpt's hf_quant_config.json, or what config.json repeats of it; empty where only the cache is quantized."""
    inner = block.get("quantization", block)
    inner = inner if isinstance(inner, dict) else {}
    algorithm = str(inner.get("quant_algo"))
    whole = "quant_algo" in inner and inner["quant_algo"] is None and not inner.get("config_groups")
    label = f"ModelOpt {algorithm[:40]}"
    if algorithm.upper() not in MODELOPT and not whole:
        said = label if inner.get("quant_algo") is not None else "ModelOpt that names no quant_algo"
        raise unknown(f"its weights are quantized already (modelopt): {said}", where)
    known = (
        "quant_algo",
        "kv_cache_quant_algo",
        "exclude_modules",
        "config_groups",
        "ignore",
        "kv_cache_scheme",
        "producer",
        "quant_method",
        "quantization",
    )
    for part in (block, inner):
        require_known(part, known, where, label)
    if whole:
        return []
    strategy = MODELOPT[algorithm.upper()]
    return [_packing(label, strategy, "weight_scale", MODELOPT_BLOCK, ("input_scale",), strategy != "block")]


def plain(block: Mapping[str, Any], where: str) -> list[Packing]:
    """`quant_method: fp8`: DeepSeek's blocks, or one scale a tensor under either name."""
    if str(block.get("expert_dtype", "fp8")) != "fp8" or block.get("scale_fmt") not in (None, "float", "ue8m0"):
        raise unknown("FP8 with experts or scales of another type", where)
    if str(block.get("fmt", "e4m3")) not in ("e4m3", "float8_e4m3fn"):
        raise unknown(f"FP8 of the type {str(block['fmt'])[:20]}", where)
    require_known(block, KEYS_READ, where, "FP8")
    size = block.get("weight_block_size")
    if size is None:
        return [
            _packing("FP8", "tensor", "weight_scale", (0, 0), ("input_scale",), True),
            _packing("FP8", "tensor", "weight_scale_inv", (0, 0), ("activation_scale",), True),
        ]
    if not isinstance(size, list) or len(size) != 2 or any(type(n) is not int or n < 1 for n in size):
        raise unknown(f"FP8 in blocks of {str(size)[:40]}", where)
    label = f"FP8 in blocks of {size[0]} x {size[1]}"
    return [_packing(label, "block", "weight_scale_inv", (size[0], size[1]), ("activation_scale",), True)]


def fbgemm(block: Mapping[str, Any], where: str) -> list[Packing]:
    """`quant_method: fbgemm_fp8`: one scale an output row, an upper bound for the scales of activations."""
    known = ("quant_method", "activation_scale_ub", "modules_to_not_convert")
    require_known(block, known, where, "FBGEMM FP8")
    return [_packing("FBGEMM FP8", "channel", "weight_scale", (0, 0), ("input_scale_ub",), True)]


def block_of(
    strategy: str, shape: tuple[int, int], group_size: int = 0, structure: tuple[int, int] = (0, 0)
) -> tuple[int, int]:
    """(outputs, inputs) of a weight of `shape` that share a scale."""
    return {"tensor": shape, "channel": (1, shape[1]), "group": (1, group_size), "block": structure}[strategy]


def grid_of(shape: tuple[int, int], block: tuple[int, int]) -> tuple[int, int]:
    """How many blocks a weight of `shape` has; the last ones may be short."""
    return -(-shape[0] // block[0]), -(-shape[1] // block[1])


def _packing(
    label: str, strategy: str, scale: str, structure: tuple[int, int], unused: tuple[str, ...], activations: bool
) -> Packing:
    def shape(parts: Parts) -> tuple[int, int]:
        found = require_matrix(parts, "weight", CODES)
        grid = grid_of(found, block_of(strategy, found, structure=structure))
        forms = {"tensor": ((), (1,), (1, 1)), "channel": ((grid[0],), grid), "block": (grid, (grid[0], 1, grid[1], 1))}
        wanted = next((form for form in forms[strategy] if form == tuple(parts[scale].shape)), grid)
        require_part(parts, scale, wanted, (*REAL, POWERS))
        return found

    def weight(parts: Parts) -> Tensor:
        found = shape(parts)
        block = block_of(strategy, found, structure=structure)
        scales = parts[scale].float().view(grid_of(found, block))
        require_scales(scale, scales, lambda other: dequantized(parts["weight"], other, None, block))
        return dequantized(parts["weight"], scales, None, block)

    return Packing(
        label,
        "weight",
        scale,
        0,
        shape,
        weight,
        ("weight", scale),
        unused=unused,
        fixed=SHARED[strategy],
        activations=activations,
    )
