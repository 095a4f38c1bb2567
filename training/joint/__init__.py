"""Stage 3: segmenter and flow together, and what is pasted into the training images."""
