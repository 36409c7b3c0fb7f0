"""transformers before 5, which reads `rope_theta` and `rope_scaling`."""

from qroar_core.exporters.reader import Limit, Reader

UNKNOWN = ("lfm2_moe", "qwen3_5_text", "qwen3_5_moe_text")

READER = Reader(
    20,
    "transformers",
    "4.57",
    "run on small models of every family; configuration_olmo2.py, modeling_deepseek_v2.py",
    ("hf", "w4a16", "quantized"),
    (
        Limit(
            lambda export: export.family == "olmo2" and export.rope_type not in ("default", "linear", "dynamic"),
            "refuses every interpolation of OLMo 2 but linear and dynamic: export with --rope ntk.",
        ),
        Limit(
            lambda export: export.family == "deepseek_v2" and bool((export.rope or {}).get("mscale_all_dim")),
            "leaves mscale_all_dim out of DeepSeek V2's softmax scale, of its own checkpoints too: use transformers 5.",
        ),
        Limit(
            lambda export: export.family in UNKNOWN,
            "does not know this kind of model: use transformers 5.",
        ),
    ),
    worker="transformers_worker",
    module="transformers",
    packages=("transformers==4.57.3", "huggingface-hub==0.36.0", "tokenizers==0.22.1"),
    here=False,
)
