"""AWQ folders in AutoAWQ's `gemm` layout: codes and zero points packed along the outputs, in an order of their own.

Nibble k of a word holds output (0, 2, 4, 6, 1, 3, 5, 7)[k] of its eight; zero points are stored as they are.
Source: casper-hansen/AutoAWQ modules/linear/gemm.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from qroar_core.models.formats.packing import (
    INT32_BITS,
    REAL,
    Packing,
    Parts,
    dequantized,
    groups_of,
    require_known,
    require_matrix,
    require_part,
    unknown,
    unpacked,
    whole,
    yes_or_no,
)

BITS = 4
ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # output of each nibble of a word
LABEL = "AWQ int4"
OLD_NAMES = {"w_bit": "bits", "q_group_size": "group_size"}  # of AutoAWQ's own quant_config.json
KEYS_READ = ("quant_method", "method", "bits", "group_size", "version", "format", "checkpoint_format", "zero_point")
HARMLESS = (
    *("modules_to_not_convert", "backend", "do_fuse", "fuse_max_seq_len", "modules_to_fuse", "exllama_config", "meta"),
    *("desc_act", "sym", "lm_head", "pack_dtype", "true_sequential", "damp_percent", "tokenizer", "dataset"),
)


def packing(block: Mapping[str, Any], where: str) -> Packing:
    """The format of a config's AWQ settings.

    Raises:
        UnsupportedModel: settings not known here, or missing.
    """
    block = {OLD_NAMES.get(key, key): value for key, value in block.items()}
    if block.get("bits") != BITS or isinstance(block["bits"], bool):
        raise unknown(f"its weights are quantized already (awq): AWQ of {str(block.get('bits'))[:20]} bits", where)
    for key in ("version", "format", "checkpoint_format"):
        if str(block.get(key) or "gemm").lower() != "gemm":
            raise unknown(f"its weights are quantized already (awq): {key} {str(block[key])[:20]}", where)
    if block.get("backend") == "llm-awq":
        raise unknown("its weights are quantized already (awq): the layout of llm-awq", where)
    if yes_or_no(block, "zero_point", where, LABEL) is False:
        raise unknown(f"{LABEL} with zero_point false", where)
    size = whole(block, "group_size", where, LABEL)
    if size != -1 and size < 1:
        raise unknown(f"{LABEL} in groups of {size}", where)
    require_known(block, (*KEYS_READ, *HARMLESS), where, LABEL)
    return Packing(
        LABEL,
        "qweight",
        "scales",
        1,
        lambda p: _shape(p, size),
        lambda p: _weight(p, size),
        required=("qweight", "scales", "qzeros"),
    )


def _shape(parts: Parts, group_size: int) -> tuple[int, int]:
    inputs, words = require_matrix(parts, "qweight", (torch.int32,))
    out, groups = words * INT32_BITS // BITS, groups_of(inputs, group_size)
    require_part(parts, "scales", (groups, out), REAL)
    require_part(parts, "qzeros", (groups, words), (torch.int32,))
    return out, inputs


def _weight(parts: Parts, group_size: int) -> Tensor:
    _, inputs = _shape(parts, group_size)
    size = inputs if group_size == -1 else group_size
    return dequantized(_outputs(parts["qweight"]), parts["scales"].mT, _outputs(parts["qzeros"]), (1, size))


def _outputs(words: Tensor) -> Tensor:
    """int32 (rows, words) -> codes (outputs, rows)."""
    place = torch.tensor(ORDER).argsort()  # nibble that holds each output of a word
    nibbles = unpacked(words, BITS).unflatten(-1, (-1, len(ORDER)))  # (rows, words, 8)
    return nibbles[..., place].flatten(-2).mT.contiguous()
