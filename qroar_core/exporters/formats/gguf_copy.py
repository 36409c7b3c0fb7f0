"""A finished GGUF file whose block scales are edited."""

from qroar_core.exporters.format import Format

FORMATS = {
    "gguf": Format(
        30, "the GGUF file, its scales edited", "llama.cpp", transforms="band scales", copies=True, whole_file=True
    ),
}
