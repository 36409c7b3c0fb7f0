"""LMDeploy: quant_policy 8 and 4 in TurboMind, asymmetric, a scale and a minimum for each token and KV head."""

from __future__ import annotations

from qroar_core.quantizers.preset import KVPreset, Runtime
from qroar_core.quantizers.spec import QuantizerSpec


def _policy(bits: int) -> KVPreset:
    spec = QuantizerSpec(bits, levels="affine", scale_dtype="input")
    return KVPreset(
        spec,
        spec,
        "InternLM/lmdeploy src/turbomind/kernels/attention/kv_cache_utils_v2.cu ProcessKV_v2, "
        "quantization.h warp_stats, quantize (1263d5cd); lmdeploy/messages.py QuantPolicy",
        "TurboMind computes codes in the model's 16 bits, here in 32: a few codes fall to the neighbour. The PyTorch "
        "engine keeps -min/scale in place of the minimum and rounds halves up; TurboQuant (42) is no preset.",
        asked=f"LMDeploy `--quant-policy {bits}`",
        what=f"int{bits} from minimum to maximum of a token and KV head",
    )


RUNTIME = Runtime(55, {f"lmdeploy{bits}": _policy(bits) for bits in (8, 4)})
