"""What becomes of frames between their arrival and the inference: slots, counts, times."""
