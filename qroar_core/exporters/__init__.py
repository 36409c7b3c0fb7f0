"""Parts of the export stage: GGUF files, checkpoints that are quantized already, and verifying what was written."""
