"""Controls: each returns what a person asks for, as a spec."""
