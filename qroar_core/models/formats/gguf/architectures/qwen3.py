"""Qwen3: a norm on q and k whose gain all heads of a layer share."""

from __future__ import annotations

from qroar_core.models.formats.gguf.architecture import QK_NORM, STANDARD, Architecture, Config, decoder
from qroar_core.models.formats.gguf.files import GgufFiles
from qroar_core.models.formats.gguf.metadata import Metadata


def config(meta: Metadata, files: GgufFiles) -> Config:
    """Qwen3's config."""
    return decoder(meta, files, "Qwen3ForCausalLM", "qwen3") | {"use_sliding_window": False, "attention_bias": False}


QWEN3 = Architecture("qwen3", config, layer=STANDARD | QK_NORM, no_scales="a norm follows q and k")
