"""A folder as transformers writes it."""

from qroar_core.exporters.format import Format

FORMATS = {
    "hf": Format(
        10, "Hugging Face folder", "transformers, vLLM", own_weights=True, takes_dtype=True, holds_cache_scales=True
    ),
}
