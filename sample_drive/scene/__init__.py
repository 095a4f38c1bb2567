"""What stands in the street of a sample drive."""
