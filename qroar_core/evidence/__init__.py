"""Is the gain real? Controls, replication over texts and seeds, and whether diagnostics predict cost."""
