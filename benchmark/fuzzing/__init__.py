"""Fuzzers of all that is untrusted: images, bundles, recordings, parameter files."""
