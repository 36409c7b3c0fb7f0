"""The bands of RoPE pairs that every diagnostic is told by."""

from qroar_core.diagnostics.diagnostic import Diagnostic

DIAGNOSTIC = Diagnostic("Cost of each band", 110, "Bands", ("band_cost",))
