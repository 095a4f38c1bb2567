"""The normalizing flow: an invertible, multi-scale, fully convolutional model of 8-bit RGB patches."""
