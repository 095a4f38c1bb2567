"""The pages of a fleet: one HTML file each, which needs no other file and no network."""
