"""Fuzzers of untrusted inputs: images, bundles, recordings, parameter files."""
