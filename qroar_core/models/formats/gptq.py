"""GPTQ folders: `qweight` packed along the inputs, `qzeros` along the outputs, one scale a group and output.

Two ways to store a zero point z are in use: v1 (AutoGPTQ) writes z - 1, v2 (GPTQModel's `gptq_v2`) writes z. The
config's `checkpoint_format` is wrong often enough to cost a model, so symmetric files are read by their numbers: their
zero point is 2^(bits - 1), and a stored 2^(bits - 1) is v2, one less is v1, anything else is refused.

In an asymmetric v1 file a stored 2^bits - 1 stands for z = 0 that wrapped, and readers disagree: GPTQModel adds one to
the 32-bit word, so that a carry reaches the next code; AutoGPTQ masks code by code; exllama and vLLM's kernel read
2^bits. What the writer meant depends on which of them it was, so such a file is refused.
Source: AutoGPTQ/AutoGPTQ nn_modules/qlinear, pull request 640; ModelCloud/GPTQModel utils/model.py
convert_gptq_v1_to_v2_format_module; vllm-project/vllm csrc/quantization/gptq/q_gemm.cu, issue 26343, pull 38966.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qroar_core.errors import UnsupportedModel
from qroar_core.models.formats.packing import (
    INT32_BITS,
    REAL,
    Packing,
    Parts,
    by_index,
    dequantized,
    groups_of,
    require_groups_in_order,
    require_known,
    require_matrix,
    require_part,
    unknown,
    unpacked,
    whole,
    yes_or_no,
)

BITS = (2, 3, 4, 8)
VERSIONS = {None: 1, "gptq": 1, "gptq_v2": 2}
KEYS_READ = (
    "quant_method",
    "method",
    "bits",
    "group_size",
    "sym",
    "desc_act",
    "checkpoint_format",
    "format",
    "dynamic",
    "pack_dtype",
    "is_marlin_format",
    "awq_gemm_checkpoint",
)
HARMLESS = (  # how the codes were found, or who found them: nothing that changes what they stand for
    *("damp_percent", "damp_auto_increment", "static_groups", "true_sequential", "model_name_or_path", "lm_head"),
    *("model_file_base_name", "act_group_aware", "mse", "meta", "dataset", "tokenizer", "batch_size", "pad_token_id"),
    *("block_name_to_quantize", "module_name_preceding_first_block", "modules_in_block_to_quantize", "model_seqlen"),
    *("cache_block_outputs", "max_input_length", "use_cuda_fp16", "use_exllama", "exllama_config", "disable_exllama"),
    *("backend", "hyb_act", "v2", "v2_alpha", "pack_impl", "offload_to_disk", "offload_to_disk_path"),
    *("gptaq", "foem", "fallback", "failsafe", "hessian", "modules_to_not_convert", "group_aware", "iters", "nsamples"),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a folder's config says of its codes."""

    bits: int
    group_size: int  # -1: the whole row
    symmetric: bool | None  # None: not said
    act_order: bool | None
    version: int

    @property
    def label(self) -> str:
        return f"GPTQ int{self.bits}"


def packing(block: Mapping[str, Any], where: str) -> Packing:
    """The format of a config's GPTQ settings.

    Raises:
        UnsupportedModel: settings not known here, or missing.
    """
    settings = _settings(block, where)
    return Packing(
        settings.label,
        "qweight",
        "scales",
        1,
        lambda p: _shape(p, settings),
        lambda p: _weight(p, settings),
        required=("qweight", "scales", "qzeros"),
        optional=("g_idx",),
    )


def _settings(block: Mapping[str, Any], where: str) -> Settings:
    bits = block.get("bits")
    if bits not in BITS or not isinstance(bits, int):
        raise unknown(f"its weights are quantized already (gptq): GPTQ of {str(bits)[:20]} bits", where)
    label = f"GPTQ int{bits}"
    size = whole(block, "group_size", where, label)
    if size != -1 and size < 1:
        raise unknown(f"{label} in groups of {size}", where)
    forms = {key: block[key] for key in ("checkpoint_format", "format") if block.get(key) is not None}
    for key, form in forms.items():
        if form not in VERSIONS:
            raise unknown(f"{label} with {key} = {str(form)[:40]}", where)
    if len(set(forms.values())) > 1:
        raise UnsupportedModel(f"its {label} settings say {forms}", where=where, do="correct one of the two")
    if block.get("pack_dtype") not in (None, "int32"):
        raise unknown(f"{label} packed in {str(block['pack_dtype'])[:20]}", where)
    if block.get("is_marlin_format") or block.get("awq_gemm_checkpoint"):
        raise unknown(f"{label} in the layout of another kernel (marlin or AWQ)", where)
    _require_one_setting(block, where, label)
    require_known(block, (*KEYS_READ, *HARMLESS), where, label)
    return Settings(
        bits,
        size,
        yes_or_no(block, "sym", where, label),
        yes_or_no(block, "desc_act", where, label),
        VERSIONS[next(iter(forms.values()), None)],
    )


def _require_one_setting(block: Mapping[str, Any], where: str, label: str) -> None:
    """GPTQModel's `dynamic`: a pattern of module names -> settings of their own; `-:` leaves a module unquantized."""
    dynamic = block.get("dynamic") or {}
    if not isinstance(dynamic, dict):
        raise unknown(f"{label} with dynamic = {str(dynamic)[:40]}", where)
    for pattern, own in dynamic.items():
        if str(pattern).startswith("-:"):
            continue
        changed = own if not isinstance(own, dict) else {k: v for k, v in own.items() if block.get(k) != v}
        if changed:
            raise unknown(f"{label} with settings of their own for {str(pattern)[:40]}: {str(changed)[:40]}", where)


def _shape(parts: Parts, settings: Settings) -> tuple[int, int]:
    words, out = require_matrix(parts, "qweight", (torch.int32,))
    inputs = words * INT32_BITS // settings.bits
    if words * INT32_BITS % settings.bits or out * settings.bits % INT32_BITS:
        raise ValueError(f"{inputs} inputs and {out} outputs do not fill words of {settings.bits} bits")
    groups = groups_of(inputs, settings.group_size)
    require_part(parts, "scales", (groups, out), REAL)
    require_part(parts, "qzeros", (groups, out * settings.bits // INT32_BITS), (torch.int32,))
    if "g_idx" in parts:
        require_part(parts, "g_idx", (inputs,), (torch.int32, torch.int64))
    elif settings.act_order:
        raise ValueError("it has no g_idx, and the config says desc_act true")
    return out, inputs


def _weight(parts: Parts, settings: Settings) -> Tensor:
    _, inputs = _shape(parts, settings)
    codes = unpacked(parts["qweight"].mT, settings.bits)  # (in / codes of a word, out) -> (out, in)
    zero = zero_points(unpacked(parts["qzeros"], settings.bits), settings).mT  # (groups, words) -> (out, groups)
    scale = parts["scales"].mT
    size = inputs if settings.group_size == -1 else settings.group_size
    if "g_idx" in parts:
        require_groups_in_order(parts["g_idx"], size, ordered=not settings.act_order)
        if settings.act_order:
            return by_index(codes, scale, zero, parts["g_idx"])
    return dequantized(codes, scale, zero, (1, size))


def zero_points(stored: Tensor, settings: Settings) -> Tensor:
    """int16 zero points of stored ones, by the rules at the head of this file.

    Raises:
        ValueError: zero points that contradict the config, or that readers of this format read differently.
    """
    half, top = 1 << (settings.bits - 1), (1 << settings.bits) - 1
    low, high = int(stored.min()), int(stored.max())
    if settings.symmetric is not False:
        if low == high and low in (half - 1, half):
            return torch.full_like(stored, half, dtype=torch.int16)
        if settings.symmetric is None:
            raise ValueError(f"the config does not say sym, and zero points are stored as {low} to {high}")
        raise ValueError(
            f"the config says sym, zero points are stored as {low} to {high}, not all as {half - 1} (v1) or {half} (v2)"
        )
    if low == high and low in (half - 1, half):  # no asymmetric layer is so: a symmetric one, marked wrongly
        if (low == half) != (settings.version == 2):
            raise ValueError(
                f"every zero point is stored as {low}, which is symmetric in {'v2' if low == half else 'v1'}; "
                f"the config says sym false and v{settings.version}"
            )
        return torch.full_like(stored, half, dtype=torch.int16)
    if settings.version == 2:
        return stored.short()
    if high == top:
        raise ValueError(
            f"{int((stored == top).sum())} zero points are stored as {top}, which readers of GPTQ v1 take as "
            f"{top + 1}, as 0, or as 0 and a carry; save it as gptq_v2"
        )
    return stored.short() + 1
