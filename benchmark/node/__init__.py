"""The cost of the node beyond its engine."""
