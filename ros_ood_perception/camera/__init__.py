"""Images of a camera, checked and decoded, and the camera model."""
