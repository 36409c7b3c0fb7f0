"""What rounding does to the coordinates and lengths of q and K."""

from qroar_core.diagnostics.diagnostic import Diagnostic

DIAGNOSTIC = Diagnostic("Rounding", 90, "Noise", ("rounding",))
