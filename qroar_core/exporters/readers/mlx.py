"""mlx-lm, which reads `rope_theta` and `rope_scaling` in most families."""

from qroar_core.exporters.reader import Limit, Reader

READER = Reader(
    40,
    "mlx-lm",
    "0.32",
    "run on a CPU; models/rope_utils.py, generate.py `prefill_step_size`",
    ("hf",),
    (
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
