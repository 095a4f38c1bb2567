"""Calibrations as cameras give them: `sensor_msgs/CameraInfo`, files, and the names of distortions."""
