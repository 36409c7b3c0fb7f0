"""What --format may say, by who writes it; names alone, so that checking one costs no import of a model library."""

HF = ("hf",)
GGUF_COPY = ("gguf",)  # a finished file with only its scales edited; nothing is loaded
GGUF_WRITE = ("gguf-f16", "gguf-bf16", "gguf-q8_0", "gguf-q4_0")
QUANTIZED_COPY = ("quantized",)
W4A16 = ("w4a16",)
FORMATS = (*HF, *W4A16, *GGUF_COPY, *GGUF_WRITE, *QUANTIZED_COPY)
