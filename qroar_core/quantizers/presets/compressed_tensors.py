"""compressed-tensors: W4A16 checkpoints, as vLLM loads them."""

from __future__ import annotations

from qroar_core.quantizers.preset import Runtime, WeightPreset
from qroar_core.quantizers.spec import WeightQuantSpec

RUNTIME = Runtime(
    60,
    weights={
        "w4a16": WeightPreset(
            WeightQuantSpec(4, scale="group", group_size=128, symmetric=True, full_range=True),
            "vllm-project/compressed-tensors quantization/quant_scheme.py W4A16, "
            "quantization/utils/helpers.py calculate_qparams",
            "Levels -8..7, step absmax/7.5. Round to nearest: checkpoints usually add GPTQ. The checkpoint "
            "stores the step in the weights' dtype.",
        ),
    },
)
