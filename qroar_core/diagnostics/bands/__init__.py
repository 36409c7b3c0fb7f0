"""The bands of RoPE pairs that every diagnostic is told by."""
