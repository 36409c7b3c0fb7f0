"""Amplitude and phase error of quantized RoPE pairs."""

from qroar_core.diagnostics.diagnostic import Diagnostic

DIAGNOSTIC = Diagnostic("Amplitude and phase error", 70, "Noise", ("pair_error",))
