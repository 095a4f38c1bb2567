"""Whether the node does its work: diagnostics, deadlines, the watchdog."""
