"""SGLang, which reads `rope_parameters` as transformers 5 writes them."""

from qroar_core.exporters.reader import Limit, Reader, Recipe, Served
from qroar_core.exporters.recipe import FROM_CHECKPOINT, cache_of, in_float32, no_such_cache, shell

FORMATS = ("hf", "w4a16", "quantized")


def recipe(served: Served) -> Recipe | None:
    """`sglang.launch_server` with the length and the cache of this setup."""
    if served.export.format not in FORMATS:
        return None
    words = ["python", "-m", "sglang.launch_server", "--model-path", str(served.path)]
    words += ["--context-length", str(served.length), *in_float32(served)]
    notes = ["The interpolation is read from rope_parameters in config.json."]
    found, asked = cache_of("sglang", served.quant), cache_of("vllm", served.quant)
    if asked is not None and asked[0] == FROM_CHECKPOINT:
        words += ["--kv-cache-dtype", "fp8_e4m3"]
        has = (
            "They are in this checkpoint."
            if served.export.cache_scales
            else "This export has none: add --cache-scales."
        )
        notes.append(f"k_scale and v_scale are read from the checkpoint; without them it rounds by 1.0. {has}")
    elif found is not None:
        words += found[1].flags
        notes.append(found[1].note)
        if served.export.cache_scales:
            notes.append("This export has a k_scale and a v_scale a layer, which SGLang reads in place of 1.0.")
    elif served.rounds_cache:
        notes.append(no_such_cache("SGLang", "sglang"))
    return shell(words, notes=notes)


READER = Reader(
    35,
    "SGLang",
    "0.5.23",
    "read, not run: sglang/srt/arg_groups/fields/model.py, layers/rotary_embedding, configs/model_config.py, "
    "layers/quantization/kv_cache.py of its wheel",
    FORMATS,
    (
        Limit(
            lambda export: export.rope_type == "dynamic",
            "freezes dynamic NTK at the longest context that it promises, the factor times config.json's "
            "max_position_embeddings: export with --rope ntk.",
        ),
        Limit(
            lambda export: export.has_two_lists,
            "chooses LongRoPE's list for a whole batch, by the furthest position of any request in it.",
        ),
        Limit(
            lambda export: export.rope_type == "linear",
            "stretches config.json's context by the factor once more: give --context-length.",
        ),
        Limit(
            lambda export: export.format == "hf" and export.dtype == "float32",
            "serves a float32 folder in float16 (Gemma: bfloat16) unless it is started with --dtype float32.",
        ),
    ),
    recipe=recipe,
)
