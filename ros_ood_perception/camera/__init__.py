"""What comes from a camera: image bytes of strangers, checked and decoded."""
