"""What rounds numbers: grids, fake quantization, rotations, weight quantizers and the presets of runtimes."""
