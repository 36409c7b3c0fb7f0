"""Where transformers lives: load a checkpoint, know its layout, run it in a stream, patch and restore it."""
