"""Outlier channels: which they are, how they move with position, and what they cost the quantizer."""

from qroar_core.diagnostics.diagnostic import Diagnostic

DIAGNOSTIC = Diagnostic("Outliers", 50, "Outliers", ("outliers",))
