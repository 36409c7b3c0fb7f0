"""Tail inflation: do q and k reach further at long context than at short?"""

from qroar_core.diagnostics.diagnostic import Diagnostic

DIAGNOSTIC = Diagnostic("Tail inflation", 30, "Tails", ("tail_inflation", "tails", "survival"))
