"""What commutes with RoPE: band scales and pair angles, their file, bounds and baselines."""
