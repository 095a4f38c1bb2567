"""The command `replay`: its options, what they open, and what is printed."""
