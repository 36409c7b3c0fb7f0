"""TensorRT-LLM: kv_cache_config.dtype fp8 and nvfp4."""

from __future__ import annotations

from qroar_core.quantizers.preset import KVPreset, Runtime
from qroar_core.quantizers.spec import QuantizerSpec

_FP8 = QuantizerSpec(8, scale="tensor", levels="e4m3", static_scale=1.0)
_NVFP4 = QuantizerSpec(4, scale="block", levels="nvfp4", group_size=16)
_SCALES = "NVIDIA/TensorRT-LLM tensorrt_llm/_torch/modules/linear.py kv_scales, TRTLLM_LOAD_KV_SCALES (ed53795b); "

RUNTIME = Runtime(
    44,
    {
        "trtllm_fp8": KVPreset(
            _FP8,
            _FP8,
            _SCALES + "docs/source/features/quantization.md",
            "The numbers of vLLM's fp8. Scales of a ModelOpt checkpoint are read by newer versions and left out by "
            "older ones; here 1.0.",
            asked="TensorRT-LLM `kv_cache_config.dtype: fp8`",
            what="8-bit floats (e4m3), scale 1.0, as without scales in the checkpoint",
        ),
        "trtllm_nvfp4": KVPreset(
            _NVFP4,
            _NVFP4,
            _SCALES + "cpp/tensorrt_llm/kernels/quantization.cuh cvt_warp_fp16_to_fp4",
            "Second scale 1.0. Those of a checkpoint are amax / (6 * 448), times 6 when loaded, if they are "
            "(TRTLLM_LOAD_KV_SCALES). head_dim must be a multiple of 16.",
            asked="TensorRT-LLM `kv_cache_config.dtype: nvfp4` (Blackwell)",
            what="4-bit floats (E2M1) in blocks of 16 channels of a token, e4m3 scales",
        ),
    },
)
