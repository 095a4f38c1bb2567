"""What launch files need before the node runs: topic presets, camera names, the environment. Knows no ROS."""
