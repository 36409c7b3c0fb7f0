"""Similarity of hidden states: the reference's layer outputs against the quantized model's."""
