"""16-bit floats with 5 bits of exponent: what most caches hold when nothing is quantized."""

from qroar_core.quantizers.float8 import level_set

LEVELS = level_set("f16", "float16", 80, width=16)
