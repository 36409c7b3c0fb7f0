"""Amplitude and phase error of quantized RoPE pairs."""
