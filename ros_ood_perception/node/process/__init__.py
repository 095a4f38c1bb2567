"""Start and end of the process."""
