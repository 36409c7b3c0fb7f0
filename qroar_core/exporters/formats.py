"""What `--format` may say: each format in words, and who writes it. Nothing here costs an import of a model library."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Format:
    """One format that a checkpoint is written in.

    Args:
        what: as menus call it.
        readers: who loads it.
        writer: the module of `exporters` that writes it, by `run`. Where it writes any loaded model, its
            `offered(loaded)` says None of one that cannot be written so, or else what a menu adds of it.
        copies: it edits finished files, and so is offered by the command line and the library alone.
        takes_group_size: how many inputs of a row share a scale can be chosen.
        takes_dtype: the number format of the weights can be chosen.
        llama_cpp_bound: nats, the mean |d ln p| between llama.cpp and transformers that `verify` takes for rounding.
    """

    what: str
    readers: str
    writer: str
    copies: bool = False
    takes_group_size: bool = False
    takes_dtype: bool = False
    llama_cpp_bound: float = 0.02


FORMATS: dict[str, Format] = {
    "hf": Format("Hugging Face folder", "transformers, vLLM", "hf", takes_dtype=True),
    "w4a16": Format("W4A16 folder", "vLLM, transformers with compressed-tensors", "w4a16", takes_group_size=True),
    "gguf": Format("the GGUF file, its scales edited", "llama.cpp", "gguf_copy", copies=True),
    "gguf-f16": Format("GGUF F16", "llama.cpp", "gguf_write"),
    "gguf-bf16": Format("GGUF BF16", "llama.cpp", "gguf_write"),
    "gguf-q8_0": Format("GGUF Q8_0", "llama.cpp, 8-bit weights", "gguf_write", llama_cpp_bound=0.1),
    "gguf-q4_0": Format("GGUF Q4_0", "llama.cpp, 4-bit weights", "gguf_write", llama_cpp_bound=0.5),
    "quantized": Format("the quantized folder's own codes, scaled", "its own readers", "quantized_copy", copies=True),
}


def written_by(writer: str) -> tuple[str, ...]:
    """Names of the formats that a module of `exporters` writes."""
    return tuple(name for name, format in FORMATS.items() if format.writer == writer)
