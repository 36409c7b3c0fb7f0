"""Outlier channels: which they are, how they move with position, and what they cost the quantizer."""
