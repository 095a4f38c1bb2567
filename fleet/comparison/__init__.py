"""Two bundles over a fleet: what changed, where, when, and in which class."""
