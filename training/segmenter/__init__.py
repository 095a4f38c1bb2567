"""The segmenter: encoder, ladder decoder and anomaly scores, and its training by cross-entropy."""
