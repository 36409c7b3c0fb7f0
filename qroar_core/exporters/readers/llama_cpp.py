"""llama.cpp, which reads the GGUF files that are written here, and makes its own of a folder.

tools/server/README.md (00dc805) for the options, convert_hf_to_gguf.py for what of config.json goes into the GGUF,
src/llama-kv-cache.cpp for the rotation (PR 21038), conversion/base.py `dequant_model` (00bd27a6) for cache scales.
"""

import shlex
from dataclasses import replace

from qroar_core.exporters.formats import FORMATS
from qroar_core.exporters.reader import Reader, Recipe, Served
from qroar_core.exporters.recipe import refusing_cache_scales
from qroar_core.interpolations.registry import interpolation_methods
from qroar_core.quantizers.presets import RUNTIMES
from qroar_core.specs import QuantizerSpec, QuantSpec

GGML_TYPES = {8: "q8_0", 5: "q5_0", 4: "q4_0"}  # the nearest cache type by bits; there is none below 4


def recipe(served: Served) -> Recipe | None:
    """`llama-server` on a GGUF written here, or the converter of a folder before it."""
    about = FORMATS[served.export.format]
    cache, environment, notes = _cache(served.quant, served.head_dim)
    length = ["-c", str(served.length)] if served.length else []
    if about.whole_file:  # it has the interpolation inside: no option says it again
        serve = shlex.join(["llama-server", "-m", str(served.path), *length, *cache])
        return Recipe(f"{environment}{serve}", "bash", ("The interpolation is in the file's own keys.", *notes))
    if not about.own_weights:
        return None
    if served.export.cache_scales:  # the converter looks for the weights of a first group, and there is none
        return refusing_cache_scales("llama.cpp's converter")
    gguf = f"{served.path}.gguf"
    rope, rope_note = _rope(served)
    if rope is None:
        return Recipe(f"# {rope_note}", "bash")
    convert = shlex.join(["python", "convert_hf_to_gguf.py", str(served.path), "--outfile", gguf, "--outtype", "f16"])
    serve = shlex.join(["llama-server", "-m", gguf, *length, *rope, *cache])
    refused = (
        "The converter permutes the rows of W_Q and W_K where llama.cpp wants interleaved pairs; both channels of a "
        "pair carry one scale, so the scales survive it. It refuses tokenizers it has never seen."
    )
    return Recipe(f"{convert}\n{environment}{serve}", "bash", (*filter(None, [rope_note]), *notes, refused))


def _rope(served: Served) -> tuple[list[str] | None, str]:
    """Options of llama-server, None where it cannot serve this interpolation; and what to say about them."""
    rope = served.rope
    if rope.tie:
        return [], (
            "llama.cpp's converter keeps the factors per pair, which tied pairs are written as, for Phi-3 alone: for "
            "other models export in a GGUF format."
        )
    words, note = interpolation_methods()[rope.method].llama_cpp(rope, rope.original_context or served.native)
    if words is None and rope.method == "longrope" and served.export.family == "phi3":
        return [], "llama.cpp knows LongRoPE for Phi-3 alone, as this model is."
    return words, note


def _cache(quant: QuantSpec, head_dim: int) -> tuple[list[str], str, list[str]]:
    """Cache options, environment, notes."""
    words: list[str] = []
    notes: list[str] = []
    for which, spec in (("k", quant.k), ("v", quant.v)):
        if spec is None:
            continue
        own = _ggml_type(which, spec)
        kind = own or GGML_TYPES.get(spec.bits)
        if kind is None:
            notes.append(f"llama.cpp has no {spec.bits}-bit cache for {which.upper()}; q4_0 is its smallest.")
            continue
        words += [f"--cache-type-{which}", kind]
        if own is None:
            notes.append(
                f"{kind} has a scale per 32 channels, this setup's {which.upper()} has not: "
                f"search under the preset {kind} to serve it there."
            )
    rounded = [spec for spec in (quant.k, quant.v) if spec is not None and 4 <= spec.bits < 16]
    if "--cache-type-v" in words and quant.v in rounded:
        words += ["-fa", "on"]
        notes.append("A quantized V cache needs flash attention.")
    unrotated = bool(rounded) and not any(spec.rotation == "hadamard" for spec in rounded)
    if unrotated and head_dim % 64 == 0:
        notes.append(
            "llama.cpp rotates K and V before it rounds them; the variable turns that off, as this setup "
            "has no rotation. With it the loss is smaller, and scales add less."
        )
        return words, "LLAMA_ATTN_ROT_DISABLE=1 ", notes
    return words, "", notes


def _ggml_type(which: str, spec: QuantizerSpec) -> str | None:
    """llama.cpp's own name of this cache, whatever order its channels are in; None: it has none like it."""
    for name, preset in RUNTIMES["llama_cpp"].caches.items():
        if replace(getattr(preset, which), channel_order="model") == replace(spec, channel_order="model"):
            return name.removesuffix("-norot")
    return None


READER = Reader(
    10,
    "llama.cpp",
    "(xllamacpp 2026.10)",
    "run on a CPU (xllamacpp); `verify` asks it about every GGUF where it is installed",
    ("gguf", "gguf-f16", "gguf-bf16", "gguf-q8_0", "gguf-q4_0"),
    recipe=recipe,
    module="xllamacpp",
    packages=("xllamacpp",),
)
