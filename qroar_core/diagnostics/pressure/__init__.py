"""Interpolation pressure: how far a RoPE pair's angle, and with it the logit, moves when the context is stretched."""

from qroar_core.diagnostics.diagnostic import Diagnostic

DIAGNOSTIC = Diagnostic("Interpolation pressure", 10, "Pressure", ("bands", "pairs", "logit_change"), frequencies=True)
