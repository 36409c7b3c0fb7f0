"""8-bit floats with 4 bits of exponent: vLLM's fp8."""

from qroar_core.quantizers.float8 import level_set

LEVELS = level_set("e4m3", "float8_e4m3fn", 60)
