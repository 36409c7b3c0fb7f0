"""Qwen2 and Qwen2.5: biases on q, k and v. llama.cpp applies no sliding window here."""

from __future__ import annotations

from qroar_core.models.formats.gguf.architecture import Architecture, Config, decoder
from qroar_core.models.formats.gguf.files import GgufFiles
from qroar_core.models.formats.gguf.metadata import Metadata


def config(meta: Metadata, files: GgufFiles) -> Config:
    """Qwen2's config."""
    return decoder(meta, files, "Qwen2ForCausalLM", "qwen2") | {"use_sliding_window": False}


QWEN2 = Architecture("qwen2", config)
