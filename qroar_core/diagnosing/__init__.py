"""The second half of the diagnose stage: meters become a result file."""
