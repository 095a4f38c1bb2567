"""Two runs over one recording, compared frame by frame."""
