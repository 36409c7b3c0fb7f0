"""Measured claims: `python -m benchmarks` prints every number that README.md and docs/benchmarks.md quote."""
