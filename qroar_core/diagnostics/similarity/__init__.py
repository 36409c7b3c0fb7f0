"""Similarity of hidden states: the reference's layer outputs against the quantized model's."""

from qroar_core.diagnostics.diagnostic import Diagnostic

DIAGNOSTIC = Diagnostic("Hidden states", 100, "Noise", ("hidden",))
