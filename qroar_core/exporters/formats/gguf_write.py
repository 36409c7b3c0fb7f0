"""A GGUF file of a loaded model."""

from qroar_core.exporters.format import Format

FORMATS = {
    "gguf-f16": Format(40, "GGUF F16", "llama.cpp", whole_file=True),
    "gguf-bf16": Format(41, "GGUF BF16", "llama.cpp", whole_file=True),
    "gguf-q8_0": Format(42, "GGUF Q8_0", "llama.cpp, 8-bit weights", whole_file=True, llama_cpp_bound=0.1),
    "gguf-q4_0": Format(43, "GGUF Q4_0", "llama.cpp, 4-bit weights", whole_file=True, llama_cpp_bound=0.1),
}
