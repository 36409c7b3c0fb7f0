"""Folders of the compressed-tensors library (llm-compressor): one weight scheme for all quantized layers.

`pack-quantized` keeps integers of 4 or 8 bits in int32 words, less 2^(bits - 1); `int-quantized`, `float-quantized` and
`naive-quantized` keep int8 or E4M3 codes as `weight`. Scales are a tensor's, a row's, a group's of inputs or a block's.
Activations and a K/V cache that the config also wants quantized are left in full precision here; the note says so.
Source: vllm-project/compressed-tensors compressors/{pack_quantized,naive_quantized}, quantization/quant_args.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qroar_core.errors import UnsupportedModel
from qroar_core.models.formats.float8 import SHARED, block_of, grid_of
from qroar_core.models.formats.packing import (
    INT32_BITS,
    REAL,
    Packing,
    Parts,
    by_index,
    dequantized,
    require_groups_in_order,
    require_known,
    require_matrix,
    require_part,
    require_scales,
    unknown,
    unpacked,
    whole,
    yes_or_no,
)

NAME = "compressed-tensors"
UNPACKED_FORMATS = ("int-quantized", "float-quantized", "naive-quantized")
CODES = {"int": torch.int8, "float": torch.float8_e4m3fn}
ZERO_TYPES = (torch.int8, torch.float8_e4m3fn, *REAL)
KEYS_READ = ("quant_method", "format", "config_groups", "sparsity_config", "transform_config", "quantization_status")
HARMLESS = ("ignore", "kv_cache_scheme", "global_compression_ratio", "version", "quantization_scheme", "producer")
WEIGHTS = (
    "num_bits",
    "type",
    "symmetric",
    "group_size",
    "strategy",
    "block_structure",
    "dynamic",
    "actorder",
    "scale_dtype",
    "zp_dtype",
    "observer",
    "observer_kwargs",
)


@dataclass(frozen=True, slots=True)
class Scheme:
    """How the weights are stored, as config.json says it."""

    form: str
    bits: int
    kind: str  # int or float
    strategy: str  # tensor, channel, group or block
    group_size: int
    structure: tuple[int, int]
    symmetric: bool
    act_order: bool

    def block(self, shape: tuple[int, int]) -> tuple[int, int]:
        return block_of(self.strategy, shape, self.group_size, self.structure)


def packings(block: Mapping[str, Any], where: str) -> list[Packing]:
    """The format of a config's compressed-tensors settings; empty where only the cache is quantized.

    Raises:
        UnsupportedModel: settings not known here, or several weight schemes.
    """
    require_known(block, (*KEYS_READ, *HARMLESS), where, NAME)
    for key in ("sparsity_config", "transform_config"):
        inner = block.get(key) or {}
        if inner != {} and not (isinstance(inner, dict) and inner.get("format") == "dense"):
            raise unknown(f"{NAME} with a {key}", where)
    if block.get("config_groups") == {} and block.get("kv_cache_scheme"):
        return []
    if block.get("quantization_status", "compressed") not in ("compressed", None):
        raise unknown(f"{NAME} with quantization_status {str(block['quantization_status'])[:40]}", where)
    groups = block.get("config_groups")
    groups = [g for g in groups.values() if isinstance(g, dict)] if isinstance(groups, dict) else []
    if not groups or any(not isinstance(g.get("weights"), dict) for g in groups):
        raise UnsupportedModel(f"{NAME} with {len(groups)} weight schemes", where=where, do="one is known here")
    for group in groups:
        require_known(group, ("weights", "targets", "input_activations", "format"), where, NAME)
        require_known(group["weights"], WEIGHTS, where, f"{NAME} weights")
    forms = {str(g.get("format") or block.get("format")) for g in groups}
    if str(block.get("format") or "mixed-precision") not in (*forms, "mixed-precision"):
        raise unknown(f"{NAME} {str(block['format'])[:40]} with layers in {', '.join(sorted(forms))[:60]}", where)
    schemes = {_scheme(g["weights"], str(g.get("format") or block.get("format")), where) for g in groups}
    if len(schemes) > 1:
        raise UnsupportedModel(f"{NAME} with {len(schemes)} weight schemes", where=where, do="one is known here")
    active = any(g.get("input_activations") for g in groups)
    return [_packing(schemes.pop(), active)]


def _scheme(weights: Mapping[str, Any], form: str, where: str) -> Scheme:
    bits, kind = whole(weights, "num_bits", where, NAME), str(weights.get("type", "int")).lower()
    strategy: Any = weights.get("strategy")
    size: Any = weights.get("group_size")
    structure: Any = weights.get("block_structure")
    if strategy is None:  # as the library reads it
        strategy = "tensor" if size is None else "channel" if size == -1 else "group"
    if strategy not in SHARED or weights.get("dynamic"):
        raise unknown(f"{NAME} with weight scales by {str(strategy)[:20]}", where)
    if strategy == "group" and (type(size) is not int or size < 1):
        raise unknown(f"{NAME} in groups of {str(size)[:20]}", where)
    if isinstance(structure, str):
        structure = [int(n) if n.isdigit() else 0 for n in structure.split("x")]
    if strategy == "block" and (
        not isinstance(structure, list) or len(structure) != 2 or any(type(n) is not int or n < 1 for n in structure)
    ):
        raise unknown(f"{NAME} in blocks of {str(structure)[:20]}", where)
    packs = form == "pack-quantized" and bits in (4, 8) and kind == "int" and strategy in ("channel", "group")
    plain = form in UNPACKED_FORMATS and bits == 8 and kind in CODES
    if not packs and not plain:
        raise unknown(f"{NAME} {form[:40]} with {bits} bits, {kind[:20]}, a scale a {strategy},", where)
    order = weights.get("actorder")
    if order not in (None, False, "weight", "static", "group", "dynamic"):
        raise unknown(f"{NAME} with actorder {str(order)[:20]}", where)
    symmetric = yes_or_no(weights, "symmetric", where, NAME)
    return Scheme(
        form,
        bits,
        kind,
        strategy,
        size if strategy == "group" else 0,
        (structure[0], structure[1]) if strategy == "block" else (0, 0),
        symmetric is not False,
        order in ("group", "dynamic"),
    )


def _packing(scheme: Scheme, active: bool) -> Packing:
    unused = ("input_scale", "input_zero_point") if active else ()
    zero = () if scheme.symmetric else ("weight_zero_point",)
    loose = ("weight_zero_point",) if scheme.symmetric else ()  # old files keep zeros of a symmetric scheme
    kind = "fp8" if scheme.kind == "float" else f"int{scheme.bits}"
    label = f"{NAME} {kind} {scheme.form}"
    if scheme.form == "pack-quantized":
        index = ("weight_g_idx",)
        required = ("weight_packed", "weight_scale", "weight_shape", *zero, *(index if scheme.act_order else ()))
        return Packing(
            label,
            "weight_packed",
            "weight_scale",
            0,
            lambda p: _packed_shape(p, scheme),
            lambda p: _packed(p, scheme),
            required,
            () if scheme.act_order else index,
            unused,
            early=("weight_shape",),
            activations=active,
        )
    return Packing(
        label,
        "weight",
        "weight_scale",
        0,
        lambda p: _plain_shape(p, scheme),
        lambda p: _plain(p, scheme),
        ("weight", "weight_scale", *zero),
        loose,
        unused,
        fixed=SHARED[scheme.strategy],
        activations=active,
    )


def _require_scale(parts: Parts, shape: tuple[int, int], scheme: Scheme) -> tuple[int, int]:
    """The shape of the scales of a weight of `shape`, which lie in `parts`."""
    block = scheme.block(shape)
    if scheme.strategy == "group" and shape[1] % block[1]:
        raise ValueError(f"groups of {block[1]} do not divide {shape[1]} inputs")
    grid = grid_of(shape, block)
    found = tuple(parts["weight_scale"].shape)
    require_part(parts, "weight_scale", found if scheme.strategy == "tensor" and found in ((), (1,)) else grid, REAL)
    return grid


def _plain_shape(parts: Parts, scheme: Scheme) -> tuple[int, int]:
    shape = require_matrix(parts, "weight", (CODES[scheme.kind],))
    _require_scale(parts, shape, scheme)
    if "weight_zero_point" in parts:
        require_part(parts, "weight_zero_point", tuple(parts["weight_scale"].shape), ZERO_TYPES)
    return shape


def _plain(parts: Parts, scheme: Scheme) -> Tensor:
    shape = _plain_shape(parts, scheme)
    block = scheme.block(shape)
    grid = grid_of(shape, block)
    zero = parts.get("weight_zero_point")
    if scheme.symmetric and zero is not None:
        if bool(zero.float().ne(0).any()):
            raise ValueError("it has zero points, and the config says symmetric")
        zero = None
    zero = None if zero is None else zero.view(grid)
    scale = parts["weight_scale"].view(grid)
    require_scales(
        "weight_scale",
        scale.float(),
        lambda other: dequantized(parts["weight"], other, zero, block),
        signed=scheme.kind == "int",
    )
    return dequantized(parts["weight"], scale, zero, block)


def _packed_shape(parts: Parts, scheme: Scheme) -> tuple[int, int]:
    words = require_matrix(parts, "weight_packed", (torch.int32,))
    require_part(parts, "weight_shape", (2,), (torch.int64, torch.int32))
    out, inputs = (int(n) for n in parts["weight_shape"])
    if min(out, inputs) < 1 or words != (out, -(-inputs * scheme.bits // INT32_BITS)):
        raise ValueError(f"weight_shape says {out} x {inputs}, the words are {words[0]} x {words[1]}")
    groups = _require_scale(parts, (out, inputs), scheme)[1]
    if "weight_zero_point" in parts:
        loose = parts["weight_zero_point"].dtype == torch.int8  # as old versions of the library wrote it
        rows = out if loose else -(-out * scheme.bits // INT32_BITS)
        require_part(parts, "weight_zero_point", (rows, groups), (torch.int8 if loose else torch.int32,))
    if "weight_g_idx" in parts:
        require_part(parts, "weight_g_idx", (inputs,), (torch.int32, torch.int64))
    return out, inputs


def _packed(parts: Parts, scheme: Scheme) -> Tensor:
    out, inputs = shape = _packed_shape(parts, scheme)
    half, scale = 1 << (scheme.bits - 1), parts["weight_scale"]
    codes = unpacked(parts["weight_packed"], scheme.bits)[:, :inputs]
    zero = torch.full_like(scale, half, dtype=torch.int16)
    if "weight_zero_point" in parts:
        zero = parts["weight_zero_point"]
        packs = zero.dtype == torch.int32  # along the outputs, less `half` as the codes are
        zero = unpacked(zero.mT, scheme.bits)[:, :out].mT.short() if packs else zero.short() + half
    index = parts.get("weight_g_idx")
    if index is not None and bool((index >= 0).all()):
        require_groups_in_order(index, scheme.block(shape)[1], ordered=not scheme.act_order)
    elif scheme.act_order:
        raise ValueError("weight_g_idx is empty, and the config says actorder group")

    def times(other: Tensor) -> Tensor:
        if scheme.act_order and index is not None:
            return by_index(codes, other, zero, index)
        return dequantized(codes.contiguous(), other, zero, scheme.block(shape))

    require_scales("weight_scale", scale.float(), times, signed=True)
    return times(scale)
