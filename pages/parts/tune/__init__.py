"""The Tune page's own parts: search, bands table, scales by hand, candidates."""
