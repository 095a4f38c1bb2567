"""The model bundle: its description, its signature, and the checks before an engine opens it."""
