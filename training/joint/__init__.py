"""Joint training of segmenter and flow: negatives, their placement, the objective and the trainer."""
