"""RoPE stretched past the trained window: frequencies of each method, pressure, bands of pairs."""
