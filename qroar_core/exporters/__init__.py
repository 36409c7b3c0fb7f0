"""The export stage: checkpoint folders, W4A16, GGUF files and quantized copies; model cards, and verification."""
