"""The claims of the papers, measured again on the user's own model."""
