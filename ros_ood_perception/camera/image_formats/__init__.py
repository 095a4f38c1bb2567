"""One module an image format: which parts of a file decide its pixels."""
