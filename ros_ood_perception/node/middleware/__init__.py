"""What ROS 2 and DDS need beyond rclpy: transport, QoS, security, shared memory."""
