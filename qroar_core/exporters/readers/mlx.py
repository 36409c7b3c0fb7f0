"""mlx-lm, which reads `rope_theta` and `rope_scaling` in most families."""

from qroar_core.exporters.reader import Limit, Reader, Recipe, Served
from qroar_core.exporters.recipe import cache_of, no_such_cache, refusing_cache_scales, shell

IGNORING = (  # families whose file makes a plain `nn.RoPE` of rope_theta
    *("mixtral", "qwen3_moe", "gemma2", "starcoder2", "stablelm", "gpt_neox", "cohere", "cohere2", "glm4", "lfm2"),
    "lfm2_moe",
)


def recipe(served: Served) -> Recipe | None:
    """`mlx_lm.server` with the cache of this setup; it takes no length."""
    if served.export.format != "hf":
        return None
    if served.export.cache_scales:
        return refusing_cache_scales("mlx-lm")
    words = ["mlx_lm.server", "--model", str(served.path)]
    notes = [f"It takes no context length: keep requests under {served.length:,} tokens."] if served.length else []
    found = cache_of("mlx", served.quant)
    if found is not None:
        words += found[1].flags
        notes += [found[1].note, "Requests are then served one at a time."]
    elif served.rounds_cache:
        notes.append(no_such_cache("mlx-lm", "mlx"))
    return shell(words, notes=notes)


READER = Reader(
    40,
    "mlx-lm",
    "0.32",
    "run on a CPU, on small models of every family; models, generate.py `prefill_step_size`, "
    "server.py, utils.py `_compressed_tensors_quantization`",
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
            lambda export: export.family == "gpt_oss",
            "refuses gpt-oss with experts in bfloat16: it reads them in MXFP4 alone.",
        ),
        Limit(
            lambda export: export.family in ("qwen3_next", "falcon_h1"),
            "gives this family other numbers with any export: 0.01 to 0.08 nats a token on a small random model.",
        ),
        Limit(
            lambda export: export.cache_scales,
            "refuses a folder with scales of an fp8 K/V cache: export without --cache-scales.",
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
    recipe=recipe,
    worker="mlx_worker",
    module="mlx_lm",
    packages=("mlx-lm==0.32.2", "mlx==0.32.0", "mlx-cpu==0.32.0"),
)
