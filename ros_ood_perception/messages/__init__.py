"""Results as ROS messages. It works with the classes of rclpy and of `rosbags`, and imports neither."""
