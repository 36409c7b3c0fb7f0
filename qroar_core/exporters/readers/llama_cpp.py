"""llama.cpp, which reads the GGUF files that are written here."""

from qroar_core.exporters.reader import Reader

READER = Reader(
    10,
    "llama.cpp",
    "(xllamacpp 2026.10)",
    "run on a CPU (xllamacpp); `verify` asks it about every GGUF where it is installed",
    ("gguf", "gguf-f16", "gguf-bf16", "gguf-q8_0", "gguf-q4_0"),
    module="xllamacpp",
    packages=("xllamacpp",),
)
