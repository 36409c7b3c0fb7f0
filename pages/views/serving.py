"""How an exported folder is loaded in transformers, vLLM and llama.cpp, and what each of them does with the setting.

vLLM: docs.vllm.ai "Context Extension" and vllm/transformers_utils/config.py (0036026): config.json's
rope_parameters are read. llama.cpp: tools/server/README.md (00dc805) for the options, convert_hf_to_gguf.py
for what of config.json goes into the GGUF, src/llama-kv-cache.cpp for the rotation (PR 21038).
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from qroar_core.exporters.formats import FORMATS
from qroar_core.exporters.gguf_write import file_name
from qroar_core.interpolations.registry import interpolation_methods
from qroar_core.models.loaded import LoadedModel
from qroar_core.quantizers.preset import KVPreset
from qroar_core.quantizers.presets import RUNTIMES
from qroar_core.setting import Setting
from qroar_core.specs import QuantizerSpec, QuantSpec, RopeSpec

VLLM, LLAMA_CPP = "0.33", "commit 00dc805"  # the versions whose documentation was read
GGML_TYPES = {8: "q8_0", 5: "q5_0", 4: "q4_0"}  # llama.cpp's nearest cache type by bits; there is none below 4


@dataclass(frozen=True, slots=True)
class Recipe:
    """Code to copy, its language, and what to know."""

    code: str
    language: str
    notes: tuple[str, ...]


def recipes(folder: Path, loaded: LoadedModel, setting: Setting, format: str = "hf") -> dict[str, Recipe]:
    """One recipe for each runtime that loads what was written to `folder` in this format."""
    llama_cpp = f"llama.cpp {LLAMA_CPP}"
    if FORMATS[format].whole_file:
        return {llama_cpp: _llama_cpp_file(main_file(folder, loaded, format), loaded, setting)}
    known = {
        f"transformers {version('transformers')}": _transformers(folder, setting, format),
        f"vLLM {VLLM}": _vllm(folder, loaded, setting),
    }
    return known | {llama_cpp: _llama_cpp(folder, loaded, setting)} if FORMATS[format].own_weights else known


def main_file(folder: Path, loaded: LoadedModel, format: str) -> Path:
    """The file without which no runtime loads the folder."""
    return folder / (file_name(loaded, format) if FORMATS[format].whole_file else "config.json")


def _transformers(folder: Path, setting: Setting, format: str) -> Recipe:
    code = (
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f"model = AutoModelForCausalLM.from_pretrained({str(folder)!r})\n"
        f"tokenizer = AutoTokenizer.from_pretrained({str(folder)!r})"
    )
    notes = ["Scales are in the weights, the interpolation is in config.json: nothing of this software is needed."]
    if not FORMATS[format].own_weights:
        notes.append("transformers reads packed weights with the library compressed-tensors.")
    k = setting.quant.k
    if k is not None and _cache_of("quanto", setting.quant) is not None:
        code += (
            '\nids = tokenizer("Fellow citizens,", return_tensors="pt")\n'
            'out = model.generate(**ids, cache_implementation="quantized", '
            f'cache_config={{"backend": "quanto", "nbits": {k.bits}}})'
        )
    elif k is not None:
        notes.append("K and V are stored in full precision unless you ask generate for a quantized cache.")
    return Recipe(code, "python", tuple(notes))


def _vllm(folder: Path, loaded: LoadedModel, setting: Setting) -> Recipe:
    words = ["vllm", "serve", str(folder), "--max-model-len", str(setting.search.length)]
    notes = ["The interpolation is read from rope_parameters in config.json; no --hf-overrides are needed."]
    if setting.rope.tie and loaded.geometry.pairing == "interleaved":
        notes.append("vLLM reads factors per pair for pairs in halves only: it refuses this model with tied pairs.")
    served = _cache_of("vllm", setting.quant)
    if served is not None:
        words += served.flags
        notes.append(served.note)
    elif setting.quant.k is not None or setting.quant.v is not None:
        notes.append(
            f"vLLM's own quantized caches are the presets {', '.join(RUNTIMES['vllm'].caches)}; it has no cache like "
            "this setup's, so measure what you will serve."
        )
    if setting.rope.method == "ntk":
        notes.append("Static NTK-aware scaling is written as a larger rope_theta.")
    return Recipe(shlex.join(words), "bash", tuple(notes))


def _llama_cpp(folder: Path, loaded: LoadedModel, setting: Setting) -> Recipe:
    gguf = f"{folder}.gguf"
    rope, rope_note = _llama_cpp_rope(setting.rope, loaded.geometry.original_context)
    cache, environment, notes = _llama_cpp_cache(setting.quant, loaded.geometry.head_dim)
    convert = shlex.join(["python", "convert_hf_to_gguf.py", str(folder), "--outfile", gguf, "--outtype", "f16"])
    serve = shlex.join(["llama-server", "-m", gguf, "-c", str(setting.search.length), *rope, *cache])
    return Recipe(
        f"{convert}\n{environment}{serve}",
        "bash",
        (
            *filter(None, [rope_note]),
            *notes,
            (
                "The converter permutes the rows of W_Q and W_K where llama.cpp wants interleaved pairs; both channels "
                "of a pair carry one scale, so the scales survive it. It refuses tokenizers it has never seen."
            ),
        ),
    )


def _llama_cpp_file(file: Path, loaded: LoadedModel, setting: Setting) -> Recipe:
    """A GGUF written here has the interpolation inside: no option says it again."""
    cache, environment, notes = _llama_cpp_cache(setting.quant, loaded.geometry.head_dim)
    serve = shlex.join(["llama-server", "-m", str(file), "-c", str(setting.search.length), *cache])
    return Recipe(f"{environment}{serve}", "bash", ("The interpolation is in the file's own keys.", *notes))


def _llama_cpp_rope(rope: RopeSpec, native: int) -> tuple[list[str], str]:
    """Options of llama-server, and what to say about them."""
    if rope.tie:
        return [], (
            "llama.cpp's converter keeps the factors per pair, which tied pairs are written as, for Phi-3 alone: for "
            "other models choose a GGUF format above."
        )
    return interpolation_methods()[rope.method].llama_cpp(rope, rope.original_context or native)


def _llama_cpp_cache(quant: QuantSpec, head_dim: int) -> tuple[list[str], str, list[str]]:
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


def _cache_of(runtime: str, quant: QuantSpec) -> KVPreset | None:
    """The runtime's cache that this K and V are."""
    caches = RUNTIMES[runtime].caches.values()
    return next((one for one in caches if (one.k, one.v) == (quant.k, quant.v)), None)
