"""The comparison's own parts: which remedies apply, and what each puts in place of the checkpoint's parameters."""
