"""The renderer: rays, shading, the camera."""
