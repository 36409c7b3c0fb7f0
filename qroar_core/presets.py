"""Named quantizers: what the runtimes people use do to the K/V cache and to weights, and where it says so.

Each preset was copied from the runtime's source (repository, file, pull request or commit in `source`)
and does what the runtime does by default, which is not always what its name suggests: llama.cpp
rotates before it rounds, transformers' "per-channel" quanto cache has one scale per 64 channels of a
token, vLLM's fp8 cache scales by 1.0 unless the checkpoint brings scales. What a `QuantizerSpec`
can't express stands in `note`. Scales that a runtime keeps in the model's dtype are `input` here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from qroar_core.errors import BadSpec
from qroar_core.specs import QuantizerSpec, QuantSpec, ScaleAxis, WeightQuantSpec

INT_BITS = range(2, 9)
DEFAULT_BLOCK = 32  # channels; llama.cpp's QK4_0 = QK8_0
DEFAULT_CHANNEL_GROUP = 32  # tokens; KIVI's G


@dataclass(frozen=True, slots=True)
class KVPreset:
    """One runtime's K/V cache. `source` is where it was read, `note` what is left out."""

    k: QuantizerSpec
    v: QuantizerSpec
    source: str
    note: str


@dataclass(frozen=True, slots=True)
class WeightPreset:
    """One weight format, round to nearest."""

    weights: WeightQuantSpec
    source: str
    note: str


# --- llama.cpp: --cache-type-k/-v q8_0, q4_0, q5_0 -------------------------------------------------
# Blocks of 32 channels of one token and KV head, fp16 d, K stored after RoPE. Since PR 21038
# (744c0c73, 2026-04-01) Q, K and V are rotated by an orthonormal Hadamard matrix whenever the cache
# type is quantized, every layer has the same head_dim and head_dim % 64 == 0: K in blocks of the
# largest power of two dividing head_dim, V in blocks of 64 ("using smaller rotation matrices for V
# seems beneficial"), the attention output rotated back. LLAMA_ATTN_ROT_DISABLE=1 turns it off.
# Llama-family checkpoints carry Q/K rows permuted to interleaved pairs, hence K's channel order; V
# keeps the model's. `for_family` drops the permutation for families that GGUF leaves alone.
_GGML_SOURCE = (
    "ggml-org/llama.cpp: ggml/src/ggml-quants.c quantize_row_{q8_0,q4_0,q5_0}_ref; src/llama-kv-cache.cpp "
    "build_input_k_rot, build_input_v_rot, LLAMA_ATTN_ROT_DISABLE (PR 21038)"
)
_GGML_NOTE = (
    "K in the interleaved channel order of Llama-family GGUFs. SIMD variants of q8_0 round ties to even. CPU "
    "flash attention also rounds q to q8_0 for its dot products; not modelled. head_dim must be a multiple "
    "of 32."
)
_LLAMA_CPP_LEAST_ROTATION = 64


def _ggml(bits: int, levels: Literal["ggml_absmax", "ggml_signed"], rotate: bool) -> KVPreset:
    v = QuantizerSpec(bits, scale="block", levels=levels, group_size=DEFAULT_BLOCK, scale_dtype="float16")
    if rotate:
        v = replace(v, rotation="hadamard", rotation_least=_LLAMA_CPP_LEAST_ROTATION)
    k = replace(v, channel_order="interleaved")
    v = replace(v, rotation_block=64) if rotate else v
    how = "Rotated if head_dim % 64 == 0, as by default. " if rotate else "As with LLAMA_ATTN_ROT_DISABLE=1. "
    return KVPreset(k, v, _GGML_SOURCE, how + _GGML_NOTE)


# --- mlx-lm: --kv-bits 4 --------------------------------------------------------------------------
# QuantizedKVCache.update_and_fetch calls mx.quantize(keys, group_size=64, bits): MLX affine along
# head_dim, scales and biases in keys.dtype, no rotation (PR 1555 was closed unmerged).
_MLX4 = QuantizerSpec(4, scale="block", levels="mlx_affine", group_size=64, scale_dtype="input")

# --- transformers: QuantizedCache, backend quanto, nbits 4 ------------------------------------------
# Defaults axis_key = axis_value = 0, q_group_size 64, residual_length 128. With axis 0 quanto's group()
# reshapes the (1, heads, tokens, head_dim) tensor to (-1, 64): sets of 64 neighbouring channels of one
# token, not the "per-channel" of the docstring. MaxOptimizer: scale (max-min)/15, float shift -min.
_QUANTO4 = QuantizerSpec(4, scale="block", levels="affine", group_size=64, scale_dtype="input", residual=128)

# --- vLLM: --kv-cache-dtype fp8 --------------------------------------------------------------------
# e4m3, x / k_scale saturated to +-448; k_scale = v_scale = 1.0 unless the checkpoint carries scales.
_FP8 = QuantizerSpec(8, scale="tensor", levels="e4m3", static_scale=1.0)

# --- KIVI, 2 bits -----------------------------------------------------------------------------------
# K after RoPE, transposed, min..max over 32 tokens of a channel, quantized 128 tokens at a time; V over
# 32 channels of a token, the newest 128 tokens in full precision.
_KIVI_K = QuantizerSpec(2, scale="channel", levels="affine", group_size=32, scale_dtype="input", residual=128)
_KIVI_V = QuantizerSpec(2, scale="block", levels="affine", group_size=32, scale_dtype="input", residual=128)

KV_PRESETS: dict[str, KVPreset] = {
    "q8_0": _ggml(8, "ggml_absmax", rotate=True),
    "q8_0-norot": _ggml(8, "ggml_absmax", rotate=False),
    "q5_0": _ggml(5, "ggml_signed", rotate=True),
    "q4_0": _ggml(4, "ggml_signed", rotate=True),
    "q4_0-norot": _ggml(4, "ggml_signed", rotate=False),
    "mlx4": KVPreset(
        _MLX4,
        _MLX4,
        "ml-explore/mlx-lm mlx_lm/models/cache.py QuantizedKVCache; ml-explore/mlx "
        "mlx/backend/cpu/quantized.cpp quantize",
        "Quantized from the first token (the Python API's quantized_kv_start=0); mlx_lm.generate's command "
        "line waits for 5000 tokens. head_dim must be a multiple of 64.",
    ),
    "quanto4": KVPreset(
        _QUANTO4,
        _QUANTO4,
        "huggingface/transformers src/transformers/cache_utils.py QuantizedLayer, QuantoQuantizedLayer; "
        "huggingface/optimum-quanto tensor/grouped.py, tensor/optimizers/max_optimizer.py",
        "The first forward reads full-precision K/V, all of which is rounded behind it, and later flushes round the "
        "whole cache again; here a prompt is read as if its tokens came one at a time, in aligned blocks of 128, each "
        "rounded once. head_dim must be a multiple of 64 (quanto lets a group "
        "run across tokens).",
    ),
    "fp8": KVPreset(
        _FP8,
        _FP8,
        "vllm-project/vllm vllm/attention/layer.py set_default_quant_scales; "
        "vllm/model_executor/layers/quantization/kv_cache.py",
        "Scale 1.0, as without calibrated scales in the checkpoint. Backends with fp8 queries round q as "
        "well; not modelled.",
    ),
    "kivi2": KVPreset(
        _KIVI_K,
        _KIVI_V,
        "jy-yuan/KIVI models/llama_kivi.py, quant/new_pack.py; arXiv 2402.02750 (G 32, R 128)",
        "A prompt is read in full precision and rounded behind its last query; here as if its tokens came one at a "
        "time. KIVI keeps V's newest 128 tokens as a sliding window; here in aligned blocks of 128, as its K.",
    ),
}

WEIGHT_PRESETS: dict[str, WeightPreset] = {
    "w4a16": WeightPreset(
        WeightQuantSpec(4, scale="group", group_size=128, symmetric=True, full_range=True),
        "vllm-project/compressed-tensors quantization/quant_scheme.py W4A16, "
        "quantization/utils/helpers.py calculate_qparams",
        "Levels -8..7, step absmax/7.5. Round to nearest: checkpoints usually add GPTQ. The checkpoint "
        "stores the step in the weights' dtype.",
    ),
}

# Hugging Face model types whose Q/K rows GGUF permutes to interleaved pairs: llama.cpp's convert scripts
# with undo_permute, LLAMA_ROPE_TYPE_NORM in src/llama-model.cpp. Families that are interleaved in
# Hugging Face too (cohere, glm) and NeoX ones (qwen, gemma, phi3, olmo2) keep the model's order.
GGUF_PERMUTED_FAMILIES = frozenset(
    ["llama", "mistral", "mixtral", "mistral3", "granite", "granitemoe", "smollm3", "arcee", "minicpm"]
    + ["internlm2", "baichuan", "xverse", "olmo"]
)


def preset_names() -> tuple[str, ...]:
    """All presets, K/V cache first."""
    return (*KV_PRESETS, *WEIGHT_PRESETS)


def preset_quant(name: str) -> QuantSpec:
    """The whole QuantSpec of a preset: K and V for a cache preset, the weights for a weight preset.

    Raises:
        BadSpec: unknown name; the message lists the known ones.
    """
    if name in KV_PRESETS:
        return QuantSpec(k=KV_PRESETS[name].k, v=KV_PRESETS[name].v, name=name)
    if name in WEIGHT_PRESETS:
        return QuantSpec(weights=WEIGHT_PRESETS[name].weights, name=name)
    raise BadSpec(f"unknown preset {name!r}", do=f"choose one of {', '.join(preset_names())}")


def for_family(quant: QuantSpec, family: str) -> QuantSpec:
    """`quant` as llama.cpp runs it on this Hugging Face `model_type`: only K's channel order can change."""
    if quant.k is None or quant.k.channel_order == "model" or family in GGUF_PERMUTED_FAMILIES:
        return quant
    return replace(quant, k=replace(quant.k, channel_order="model"))


def parse_cache_option(
    text: str,
    tensor: Literal["k", "v"],
    *,
    kv_scale: ScaleAxis | None = None,
    group_size: int | None = None,
    kv_rotation: Literal["none", "hadamard"] | None = None,
    where: str = "",
) -> QuantizerSpec | None:
    """What `--k` or `--v` spells: `none`, `int2`..`int8`, or a K/V preset.

    `int4` alone is symmetric, absmax step, one scale per token and KV head, after RoPE. The options
    after it change that; None means the option was not given. They do not go with a preset, whose
    scales and rotation are its runtime's.

    Args:
        text: the option's value.
        tensor: which of a preset's two quantizers is meant.
        kv_scale: `token` unless given.
        group_size: channels of a `block` (32 unless given) or tokens of a `channel` group (32).
        kv_rotation: `none` unless given.
        where: the option as the person spelled it, for messages; `--k` or `--v` unless given.
    Returns:
        The quantizer, or None for `none`.
    Raises:
        BadSpec: unknown value (the known ones are listed), or a preset with its own options contradicted.
    """
    name, where = text.strip().lower(), where or f"--{tensor}"
    if name == "none":
        return None
    if name in KV_PRESETS:
        if (kv_scale, group_size, kv_rotation) != (None, None, None):
            given = "--kv-scale" if kv_scale else "--group-size" if group_size else "--kv-rotation"
            raise BadSpec(f"preset {name} brings its own scales and rotation", where=where, do=f"drop {given}")
        return KV_PRESETS[name].k if tensor == "k" else KV_PRESETS[name].v
    match = re.fullmatch(r"int(\d+)", name)
    if match is None or int(match[1]) not in INT_BITS:
        known = ["none", *(f"int{b}" for b in INT_BITS), *KV_PRESETS]
        raise BadSpec(f"unknown cache quantizer {text!r}", where=where, do=f"choose one of {', '.join(known)}")
    scale = kv_scale or "token"
    default = {"block": DEFAULT_BLOCK, "channel": DEFAULT_CHANNEL_GROUP}.get(scale)
    if group_size is not None and default is None:
        raise BadSpec(f"--group-size has no meaning with --kv-scale {scale}", where=where, do="drop it")
    return QuantizerSpec(int(match[1]), scale=scale, group_size=group_size or default, rotation=kv_rotation or "none")
