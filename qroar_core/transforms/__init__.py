"""Transforms that commute with RoPE: scales, angles, maps, value maps, K offset; their file, bounds and baselines."""
