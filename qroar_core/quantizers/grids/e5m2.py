"""8-bit floats with 5 bits of exponent."""

from qroar_core.quantizers.float8 import level_set

LEVELS = level_set("e5m2", "float8_e5m2", 70)
