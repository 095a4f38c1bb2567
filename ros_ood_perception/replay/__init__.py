"""Every frame of a recording through the node's own perception, without middleware: the same bytes on every run."""
