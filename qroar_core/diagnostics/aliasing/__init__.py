"""Aliasing: phases that training never showed, and distances that a band cannot tell apart."""

from qroar_core.diagnostics.diagnostic import Diagnostic

DIAGNOSTIC = Diagnostic("Aliasing", 20, "Pressure", ("kernel",), frequencies=True)
