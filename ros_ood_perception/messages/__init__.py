"""Results as ROS messages, of rclpy or of `rosbags`. Knows neither."""
