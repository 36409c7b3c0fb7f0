"""mlx-lm, which reads `rope_theta` and `rope_scaling` in most families."""

from qroar_core.exporters.reader import Limit, Reader

IGNORING = (  # families whose file makes a plain `nn.RoPE` of rope_theta
    *("mixtral", "qwen3_moe", "gemma2", "starcoder2", "stablelm", "gpt_neox", "cohere", "cohere2", "glm4", "lfm2"),
    "lfm2_moe",
)

READER = Reader(
    40,
    "mlx-lm",
    "0.32",
    "run on a CPU, on small models of every family; models, generate.py `prefill_step_size`",
    ("hf",),
    (
        Limit(
            lambda export: export.family in IGNORING and export.rope_type != "default",
            "ignores every interpolation of this family, without a word: export with --rope ntk.",
        ),
        Limit(
            lambda export: export.family == "qwen2_moe" and export.rope_type != "default",
            "refuses every interpolation of Qwen2-MoE that is not spelled `type`: export with --rope ntk.",
        ),
        Limit(
            lambda export: export.family in ("falcon", "bamba", "qwen3_5_text"),
            "does not know this kind of model.",
        ),
        Limit(
            lambda export: export.family in ("qwen3_next", "falcon_h1"),
            "gives this family other numbers with any export: 0.01 to 0.08 nats a token on a small random model.",
        ),
        Limit(
            lambda export: export.has_two_lists,
            "reads LongRoPE's long list at every length: texts within the native window get other numbers. "
            "Give both lists alike.",
        ),
        Limit(
            lambda export: export.rope_type == "dynamic",
            "reads a prompt in steps of 2,048 tokens and rotates each for the length so far, where transformers "
            "rotates the whole prompt for its length: export with --rope ntk.",
        ),
    ),
    worker="mlx_worker",
    module="mlx_lm",
    packages=("mlx-lm==0.32.2", "mlx==0.32.0", "mlx-cpu==0.32.0"),
)
