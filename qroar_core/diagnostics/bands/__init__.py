"""The bands of RoPE pairs by which every diagnostic is reported."""

from qroar_core.diagnostics.diagnostic import Diagnostic

DIAGNOSTIC = Diagnostic("Cost of each band", 110, "Bands", ("band_cost",))
