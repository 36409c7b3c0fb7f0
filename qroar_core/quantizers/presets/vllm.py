"""vLLM: --kv-cache-dtype fp8.

e4m3, x / k_scale saturated to +-448; k_scale = v_scale = 1.0 unless the checkpoint carries scales.
"""

from __future__ import annotations

from qroar_core.quantizers.preset import KVPreset, Runtime
from qroar_core.quantizers.spec import QuantizerSpec

_FP8 = QuantizerSpec(8, scale="tensor", levels="e4m3", static_scale=1.0)

RUNTIME = Runtime(
    40,
    {
        "fp8": KVPreset(
            _FP8,
            _FP8,
            "vllm-project/vllm vllm/attention/layer.py set_default_quant_scales; "
            "vllm/model_executor/layers/quantization/kv_cache.py",
            "Scale 1.0, as without calibrated scales in the checkpoint. Backends with fp8 queries round q as "
            "well; not modelled.",
        ),
    },
)
