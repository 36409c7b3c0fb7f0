"""Dynamic-range dilation: how the range of K grows along the context, and the bits that costs."""

from qroar_core.diagnostics.diagnostic import Diagnostic

DIAGNOSTIC = Diagnostic("Dynamic-range dilation", 40, "Tails", ("dilation",))
