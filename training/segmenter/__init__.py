"""The network: encoder, ladder of features, logits and score; its training by cross-entropy."""
