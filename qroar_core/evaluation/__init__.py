"""Held-out perplexity, closeness to the reference and continuations, with and without a transform."""
