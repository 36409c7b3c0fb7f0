"""Weights at 4 bits, packed as compressed-tensors packs them."""

from qroar_core.exporters.format import Format

FORMATS = {
    "w4a16": Format(
        20,
        "W4A16 folder",
        "vLLM, transformers with compressed-tensors",
        takes_group_size=True,
        holds_cache_scales=True,
    ),
}
