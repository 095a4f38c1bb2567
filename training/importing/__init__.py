"""Networks that were trained elsewhere, as bundles."""
