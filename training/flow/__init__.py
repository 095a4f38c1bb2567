"""An invertible, multi-scale, fully convolutional normalizing flow for 8-bit RGB patches."""
