"""Operating points by false obstacles: chosen on drives in which nothing unknown lies."""
