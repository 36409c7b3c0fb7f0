"""Logit noise: what quantization does to attention logits, by position, distance, layer and band."""

from qroar_core.diagnostics.diagnostic import Diagnostic

DIAGNOSTIC = Diagnostic("Logit noise", 60, "Noise", ("logit_noise",))
