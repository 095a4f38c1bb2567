"""The street of a sample drive and everything in it."""
