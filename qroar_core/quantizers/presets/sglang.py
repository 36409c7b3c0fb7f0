"""SGLang: --kv-cache-dtype fp8_e4m3, fp8_e5m2, fp4_mx_block16 (called fp4_e2m1 before 0.5.23)."""

from __future__ import annotations

from qroar_core.quantizers.preset import KVPreset, Runtime
from qroar_core.quantizers.spec import QuantizerSpec

_FP4 = QuantizerSpec(4, scale="block", levels="sglang_fp4", group_size=16)


def _fp8(name: str, levels: str) -> KVPreset:
    spec = QuantizerSpec(8, scale="tensor", levels=levels, static_scale=1.0)
    return KVPreset(
        spec,
        spec,
        "sgl-project/sglang python/sglang/srt/mem_cache/memory_pool.py MHATokenToKVPool.set_kv_buffer; "
        "docs/advanced_features/quantized_kv_cache.md",
        "Scale 1.0 unless the checkpoint or --quantization-param-path brings scales, as vLLM's fp8: the same numbers. "
        "A bare cast may give NaN beyond the largest number; here it saturates.",
        asked=f"SGLang `--kv-cache-dtype {name}`",
        what=f"8-bit floats ({levels}), scale 1.0",
        flags=("--kv-cache-dtype", name),
    )


RUNTIME = Runtime(
    42,
    {
        "sglang_fp8_e4m3": _fp8("fp8_e4m3", "e4m3"),
        "sglang_fp8_e5m2": _fp8("fp8_e5m2", "e5m2"),
        "sglang_fp4": KVPreset(
            _FP4,
            _FP4,
            "sgl-project/sglang python/sglang/srt/layers/quantization/kvfp4_tensor.py "
            "FP4MXBlock16KVQuantizeUtil (0dae407b)",
            "Blocks of 16 where MXFP4 has 32, and scales rounded up. Its NVFP4 recipe goes through flashinfer with a "
            "scale a layer from the checkpoint: the preset nvfp4 at a scale of 1.0. head_dim must be a multiple of 16.",
            asked="SGLang `--kv-cache-dtype fp4_mx_block16`",
            what="4-bit floats (E2M1) in blocks of 16 channels of a token, scales the next power of two",
            flags=("--kv-cache-dtype", "fp4_mx_block16"),
        ),
    },
)
