"""Held-out perplexity, KL report and continuations, with and without a transform."""
