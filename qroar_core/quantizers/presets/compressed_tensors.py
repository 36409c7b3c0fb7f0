"""compressed-tensors: W4A16 checkpoints, as vLLM loads them, and its MXFP4 on a cache."""

from __future__ import annotations

from qroar_core.quantizers.preset import KVPreset, Runtime, WeightPreset
from qroar_core.quantizers.spec import QuantizerSpec, WeightQuantSpec

_MXFP4 = QuantizerSpec(4, scale="block", levels="mxfp4", group_size=32)

RUNTIME = Runtime(
    60,
    {
        "mxfp4": KVPreset(
            _MXFP4,
            _MXFP4,
            "vllm-project/compressed-tensors quantization/utils/mxfp_utils.py generate_mx_scales (0.20.0); "
            "OCP Microscaling Formats 1.0",
            "The format of weights and activations, put on a cache: no runtime was found that stores K and V so "
            "(vLLM 0.32.0's cache kinds have NVFP4, SGLang's FP4 has blocks of 16). head_dim must be a multiple of 32.",
            asked="no runtime's cache; compressed-tensors `MXFP4`",
            what="4-bit floats (E2M1) in blocks of 32 channels of a token, scales a power of two",
        ),
    },
    weights={
        "w4a16": WeightPreset(
            WeightQuantSpec(4, scale="group", group_size=128, symmetric=True, full_range=True),
            "vllm-project/compressed-tensors quantization/quant_scheme.py W4A16, "
            "quantization/utils/helpers.py calculate_qparams",
            "Levels -8..7, step absmax/7.5. Round to nearest: checkpoints usually add GPTQ. The checkpoint "
            "stores the step in the weights' dtype.",
            asked="compressed-tensors, as vLLM loads it",
            what="weights at int4 in groups of 128, one step a group",
        ),
    },
)
