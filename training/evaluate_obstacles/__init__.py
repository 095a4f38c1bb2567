"""The command `evaluate_obstacles`."""
