"""The ways down the cached objective: one file a method, found by itself; its name is `SearchSpec.method`."""
