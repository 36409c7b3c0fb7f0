"""16-bit floats with 8 bits of exponent: a cache in bfloat16."""

from qroar_core.quantizers.float8 import level_set

LEVELS = level_set("bf16", "bfloat16", 85, width=16)
