"""What scores a candidate: one file an objective, found by itself; its name is `SearchSpec.objective`."""
