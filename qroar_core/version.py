"""The version of this software; pyproject.toml says the same, which a test compares."""

VERSION = "0.1.0"
