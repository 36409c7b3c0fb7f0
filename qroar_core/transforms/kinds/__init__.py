"""The kinds of transform, a folder each."""
