"""The ROS 2 node. All that imports rclpy is here."""
