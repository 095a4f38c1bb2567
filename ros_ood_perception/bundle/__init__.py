"""The model bundle: its description, its signature, and the checks before any engine sees it."""
