"""Sweeps: many setups measured in one command, each cell a run folder, what they share computed once."""
