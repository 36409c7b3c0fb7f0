"""Parts of the retrieval stage: the prompts, and what a generated answer counts as."""
