"""Q-ROAR: see and repair what RoPE interpolation plus quantization does to a model.

The folders read in the order of the work: load -> diagnose -> search -> evaluate -> export (the stages),
standing on `models` (transformers lives there), `maths` (torch only) and the ground
(`errors`, `progress`, `specs`). Imports run downward only; tests/test_layout.py enforces it.

Importing the package asks OpenMP to sleep where it waits, before torch brings OpenMP in. By default its threads spin
at every barrier; beside another program that computes, they then spin in the time slice of the thread they wait for:
a forward pass of the demo model took 12 s instead of 1.5 s on two shared cores.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
