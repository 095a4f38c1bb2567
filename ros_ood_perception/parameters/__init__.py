"""The parameters of the node: declared once, read as settings. Knows no ROS."""
