"""One module for each image format: which parts of a file decide its pixels."""
