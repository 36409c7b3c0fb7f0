"""Interpolation pressure: how far a RoPE pair's angle, and with it the logit, moves when the context is stretched."""
