"""The graph of a bundle around a network that was not built here."""
