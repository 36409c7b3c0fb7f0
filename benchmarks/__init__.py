"""Measured claims: `python -m benchmarks` prints every number the README quotes."""
