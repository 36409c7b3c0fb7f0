"""vLLM: --kv-cache-dtype, every kind that a model with K and V of its heads can have.

fp8: e4m3, x / k_scale saturated to +-448; k_scale = v_scale = 1.0 unless the checkpoint carries scales.
*_per_token_head: a float32 scale for each token and KV head, made as the token enters. turboquant_*: K turned by a
Walsh-Hadamard matrix over head_dim and rounded to Lloyd-Max levels with its norm beside it, V minimum to maximum.
nvfp4: blocks of 16 4-bit floats. All of them round K after RoPE, token by token.
"""

from __future__ import annotations

from dataclasses import replace

from qroar_core.quantizers.preset import KVPreset, Runtime
from qroar_core.quantizers.spec import QuantizerSpec

_FP8 = QuantizerSpec(8, scale="tensor", levels="e4m3", static_scale=1.0)
_SCALES_FROM = (
    "vllm-project/vllm vllm/model_executor/layers/quantization/kv_cache.py BaseKVCacheMethod (0.32.0); "
    "vllm/v1/attention/ops/triton_reshape_and_cache_flash.py reshape_and_cache_kernel_flash"
)
_PER_HEAD = (
    "vllm-project/vllm vllm/v1/attention/ops/triton_reshape_and_cache_flash.py _reshape_cache_per_token_head (0.32.0)"
)
_TURBO = (
    "vllm-project/vllm vllm/model_executor/layers/quantization/turboquant/config.py, centroids.py; vllm/v1/attention/"
    "ops/triton_turboquant_store.py, triton_turboquant_decode.py _tq_full_dequant_kv (0.32.0)"
)
_TURBO_NOTE = (
    "vLLM keeps the first and the last two layers of a dense model in full precision and reads a whole prompt "
    "exactly; here every layer and every query is rounded. head_dim must be a power of two."
)


def _kind(
    name: str, k: QuantizerSpec, v: QuantizerSpec, source: str, note: str, what: str, more: str = ""
) -> tuple[str, KVPreset]:
    """A kind of the option under vLLM's own name for it. `more`: what a person needs beside the option."""
    asked = f"vLLM `--kv-cache-dtype {name}`{more}"
    return name, KVPreset(k, v, source, note, asked, what, ("--kv-cache-dtype", name))


def _fp8(levels: str, name: str) -> tuple[str, KVPreset]:
    spec = replace(_FP8, levels=levels)
    note = "Scale 1.0, as without calibrated scales in the checkpoint. Backends with fp8 queries round q as well; "
    what = f"8-bit floats ({levels}), scale 1.0, as without calibrated scales in the checkpoint"
    return _kind(name, spec, spec, _SCALES_FROM, note + "not modelled.", what)


def _per_token(levels: str, name: str, what: str) -> tuple[str, KVPreset]:
    spec = QuantizerSpec(8, levels=levels)
    note = "The scale is float32 and at least 1e-6" + (
        "." if levels == "vllm_int8" else "; the least is not modelled: it matters to keys below 4e-4 alone."
    )
    return _kind(name, spec, spec, _PER_HEAD, note, f"a scale for each token and KV head, {what}")


def _lloyd_max(bits: int) -> QuantizerSpec:
    return QuantizerSpec(bits, levels="lloyd_max", scale_dtype="float16", rotation="hadamard")


def _turbo(name: str, k: QuantizerSpec, v_bits: int, k_words: str) -> tuple[str, KVPreset]:
    v = QuantizerSpec(v_bits, levels="half_up", scale_dtype="float16")
    what = f"K {k_words}; V {v_bits} bits, minimum to maximum of a token"
    return _kind(f"turboquant_{name}", k, v, _TURBO, _TURBO_NOTE, what)


_CALIBRATED = replace(_FP8, static_scale=None)
_NVFP4 = QuantizerSpec(4, scale="block", levels="nvfp4", group_size=16)
_MSE = "rotated, {} bits Lloyd-Max with the norm in float16, set right to it when read"
_FROM_CHECKPOINT = KVPreset(
    _CALIBRATED,
    _CALIBRATED,
    _SCALES_FROM,
    "One k_scale and one v_scale a layer from the checkpoint; here the largest magnitude on calibration text "
    "over 448, which is what calibration tools write. Scales per head (compressed-tensors' attn_head) are not "
    "modelled. Exports have scales when they are asked for them (--cache-scales); a checkpoint without gets 1.0: the "
    "preset fp8. Those of a checkpoint are used as long as its RoPE and weights stay as they are.",
    "vLLM `--kv-cache-dtype fp8` with `k_scale`, `v_scale` in the checkpoint",
    "8-bit floats (e4m3), one calibrated scale a layer for K and for V",
    ("--kv-cache-dtype", "fp8"),
)

RUNTIME = Runtime(
    40,
    dict(
        (
            _fp8("e4m3", "fp8"),
            ("fp8-calibrated", _FROM_CHECKPOINT),
            _fp8("e5m2", "fp8_e5m2"),
            _per_token("e4m3", "fp8_per_token_head", "8-bit floats (e4m3)"),
            _per_token("vllm_int8", "int8_per_token_head", "symmetric int8, halves away from zero"),
            _kind(
                "nvfp4",
                _NVFP4,
                _NVFP4,
                "vllm-project/vllm csrc/libtorch_stable/nvfp4_kv_cache_kernels.cu reshape_and_cache_nvfp4_kernel "
                "(0cd789b3), quantization/fp4/nvfp4_utils.cuh cvt_warp_fp16_to_fp4",
                "The second scale, a number a layer, is 1.0, as without scales in the checkpoint: blocks whose largest "
                "magnitude is under 0.006 become zero. The kernel's reciprocals are approximate. head_dim must be a "
                "multiple of 16. nvfp4_4over6 tries two scales a block; it is no preset.",
                "4-bit floats (E2M1) in blocks of 16 channels of a token, e4m3 scales",
                " (Blackwell)",
            ),
            _turbo("k8v4", _FP8, 4, "8-bit floats (e4m3), scale 1.0, not rotated"),
            _turbo("4bit_nc", _lloyd_max(4), 4, _MSE.format(4)),
            _turbo("k3v4_nc", _lloyd_max(3), 4, _MSE.format(3)),
            _turbo("3bit_nc", _lloyd_max(3), 3, _MSE.format(3)),
        )
    ),
)
