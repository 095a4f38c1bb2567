"""Poses from a recording: of the cameras on the vehicle, and of the vehicle in the world."""
