"""Axis anisotropy: does the error of a quantized pair depend on its angle?"""

from qroar_core.diagnostics.diagnostic import Diagnostic

DIAGNOSTIC = Diagnostic("Axis anisotropy", 80, "Noise", ("anisotropy",))
