"""Linear layers that are quantized already, in safetensors: where each format keeps codes and scales.

Formats here have scales per output row (or per row and group of inputs), so a row times g is that row's
scales times g, codes untouched; one whose scales are not is read, and says why it cannot be scaled.
Dequantizing is for looking at the model, and for tests.
Sources: vllm-project/compressed-tensors compressors/{pack_quantized,naive_quantized};
AutoGPTQ/AutoGPTQ nn_modules/qlinear (qweight, qzeros, g_idx); casper-hansen/AutoAWQ modules/linear/gemm.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qroar_core.errors import UnsupportedModel
from qroar_core.models.formats import bitsandbytes, mxfp4

AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # output of each nibble of a word
INT32_BITS = 32
COMPRESSED = "compressed-tensors"


@dataclass(frozen=True, slots=True)
class Packing:
    """One format. `codes` is the suffix that marks a quantized layer, `out_axis` the outputs' axis of `scales`."""

    label: str
    codes: str
    scales: str
    out_axis: int
    dequantize: Callable[[Mapping[str, Tensor]], Tensor]  # parts by suffix -> the weight as the model holds it
    parts: tuple[str, ...]  # every suffix that belongs to a layer
    flat: int = 0  # inputs of a block, where the scales lie flat, row by row; 0: they have an axis of outputs
    fixed: str = ""  # why its rows cannot be scaled, where they cannot
    joint: str = "."  # between a layer's name and a part's
    weight: str = ".weight"  # what the dequantized weight is called, after the layer's name


def packing_of(block: Any, where: str) -> Packing:
    """The format that a config's `quantization_config` names.

    Raises:
        UnsupportedModel: a format whose rows cannot be scaled, or that is not known here.
    """
    block = block if isinstance(block, dict) else {}
    method = block.get("quant_method")
    if method == COMPRESSED:
        return _compressed(block, where)
    if method == "gptq" and block.get("bits") in (4, 8):
        bits, shift = int(block["bits"]), 0 if block.get("checkpoint_format") == "gptq_v2" else 1
        return Packing(
            f"GPTQ int{bits}", "qweight", "scales", 1, lambda p: _gptq(p, bits, shift),
            ("qweight", "scales", "qzeros", "g_idx"),
        )  # fmt: skip
    if method == "awq" and block.get("bits") == 4 and str(block.get("version", "gemm")).lower() == "gemm":
        return Packing("AWQ int4", "qweight", "scales", 1, _awq, ("qweight", "scales", "qzeros"))
    kind = bitsandbytes.kind_of(block) if method == "bitsandbytes" else ""
    if kind == "int8":
        names = bitsandbytes.parts_of(kind)
        return Packing("bitsandbytes int8", names[0], names[1], 0, bitsandbytes.int8_weight, names)
    if kind:
        names = bitsandbytes.parts_of(kind)
        double = bitsandbytes.DOUBLE if block.get("bnb_4bit_use_double_quant") else ""
        return Packing(
            f"bitsandbytes {kind}", names[0], names[1], 0, lambda p: bitsandbytes.int4_weight(p, kind), names,
            bitsandbytes.BLOCK, double,
        )  # fmt: skip
    if method == "mxfp4":  # gpt-oss: the experts alone, a tensor for all of them; attention is bfloat16
        return Packing(
            "MXFP4 experts", "blocks", "scales", 1, mxfp4.experts, ("blocks", "scales"), joint="_", weight=""
        )
    raise UnsupportedModel(
        f"its weights are quantized already ({method}): this format or its settings are not known here"[:200],
        where=where,
        do="give the full-precision checkpoint, a .gguf file, or compressed-tensors, GPTQ, AWQ or bitsandbytes",
    )


def _compressed(block: dict[str, Any], where: str) -> Packing:
    groups = block.get("config_groups")
    groups = list(groups.values()) if isinstance(groups, dict) else []
    schemes = [g.get("weights") if isinstance(g, dict) else None for g in groups]
    formats = {g.get("format") or block.get("format") for g in groups if isinstance(g, dict)}
    if len(schemes) != 1 or not isinstance(schemes[0], dict):
        raise UnsupportedModel(f"{COMPRESSED} with {len(schemes)} weight schemes", where=where, do="one is known here")
    scheme, form = schemes[0], formats.pop()
    bits, strategy = scheme.get("num_bits"), scheme.get("strategy")
    if strategy not in ("channel", "group"):
        raise UnsupportedModel(
            f"{COMPRESSED} with one weight scale a {strategy}: rows of several bands share it",
            where=where,
            do="scale the full-precision checkpoint and quantize it again",
        )
    if form == "pack-quantized" and bits in (4, 8):
        return Packing(
            f"{COMPRESSED} int{bits} {form}", "weight_packed", "weight_scale", 0, lambda p: _packed(p, int(bits)),
            ("weight_packed", "weight_scale", "weight_shape", "weight_zero_point", "weight_g_idx"),
        )  # fmt: skip
    if form in ("int-quantized", "float-quantized", "naive-quantized") and bits == 8:
        kind = "fp8" if scheme.get("type") == "float" else "int8"
        return Packing(
            f"{COMPRESSED} {kind} {form}", "weight", "weight_scale", 0, _plain,
            ("weight", "weight_scale", "weight_zero_point"),
        )  # fmt: skip
    raise UnsupportedModel(f"{COMPRESSED} {form} with {bits} bits is not known here", where=where)


def unpacked(words: Tensor, bits: int) -> Tensor:
    """Codes of int32 words, lowest bits first: (..., n) -> int64 (..., n * 32 / bits)."""
    if words.dtype != torch.int32:
        raise ValueError(f"words of {words.dtype}, int32 is packed")
    shifts = torch.arange(0, INT32_BITS, bits)
    codes = (words.long()[..., None] >> shifts) & ((1 << bits) - 1)  # (..., n, codes of a word)
    return codes.flatten(-2)


def _grouped(scale: Tensor, inputs: int, g_idx: Tensor | None = None) -> Tensor:
    """A value a group (out, groups) -> a value an input (out, in)."""
    if g_idx is not None and bool((g_idx >= 0).all()):
        return scale[:, g_idx.long()]
    if not scale.shape[1] or inputs % scale.shape[1]:
        raise ValueError(f"{scale.shape[1]} groups do not divide {inputs} inputs")
    return scale.repeat_interleave(inputs // scale.shape[1], dim=1)


def _packed(parts: Mapping[str, Tensor], bits: int) -> Tensor:
    out, inputs = (int(n) for n in parts["weight_shape"])
    codes = unpacked(parts["weight_packed"], bits)
    if out != len(codes) or not 0 <= codes.shape[1] - inputs < INT32_BITS // bits:
        raise ValueError(f"weight_shape {out} x {inputs}, codes {tuple(codes.shape)}")
    codes = codes[:, :inputs] - (1 << (bits - 1))
    scale = parts["weight_scale"].float()
    g_idx = parts.get("weight_g_idx")
    if "weight_zero_point" in parts:  # packed along the outputs
        zero = unpacked(parts["weight_zero_point"].mT, bits)[:, :out].mT - (1 << (bits - 1))
        codes = codes - _grouped(zero, inputs, g_idx)
    return codes.float() * _grouped(scale, inputs, g_idx)


def _plain(parts: Mapping[str, Tensor]) -> Tensor:
    codes, scale = parts["weight"].float(), parts["weight_scale"].float()
    if "weight_zero_point" in parts:
        codes = codes - _grouped(parts["weight_zero_point"].float(), codes.shape[1])
    return codes * _grouped(scale, codes.shape[1])


def _gptq(parts: Mapping[str, Tensor], bits: int, shift: int) -> Tensor:
    codes = unpacked(parts["qweight"].mT, bits)  # (in / pack, out) -> (out, in)
    zero = (unpacked(parts["qzeros"], bits) + shift).mT  # (groups, out / pack) -> (out, groups)
    scale, g_idx = parts["scales"].float().mT, parts.get("g_idx")
    inputs = codes.shape[1]
    return (codes - _grouped(zero, inputs, g_idx)).float() * _grouped(scale, inputs, g_idx)


def _awq(parts: Mapping[str, Tensor]) -> Tensor:
    place = torch.tensor(AWQ_ORDER).argsort()  # nibble that holds each output of a word

    def outputs(words: Tensor) -> Tensor:
        nibbles = unpacked(words, 4).unflatten(-1, (-1, len(AWQ_ORDER)))  # (rows, words, 8)
        return nibbles[..., place].flatten(-2).mT  # (out, rows)

    codes, zero, scale = outputs(parts["qweight"]), outputs(parts["qzeros"]), parts["scales"].float().mT
    inputs = codes.shape[1]
    return (codes - _grouped(zero, inputs)).float() * _grouped(scale, inputs)
