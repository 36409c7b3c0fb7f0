"""Logit noise: what quantization does to attention logits, by position, distance, layer and band."""
