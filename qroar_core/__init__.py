"""Q-ROAR: see and repair what RoPE interpolation plus quantization does to a model.

The folders read in the order of the work: load -> diagnose -> search -> evaluate -> export (the stages),
standing on `models` (transformers lives there), `maths` (torch only) and the ground
(`errors`, `progress`, `specs`). Imports run downward only; tests/test_layout.py enforces it.
"""

__version__ = "0.1.0"
