"""A consumer that is too slow: half a second for each anomaly mask, reliable, as long as it is let."""

import sys
import time
from contextlib import suppress

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

rclpy.init()
planner = Node("slow_planner")
planner.create_subscription(
    Image,
    f"/perception_node{sys.argv[1]}/output/anomaly/mask",
    lambda message: time.sleep(0.5),
    QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE),
)
with suppress(KeyboardInterrupt, ExternalShutdownException):
    # Not spin: a signal that comes just before it waits does not wake it.
    while rclpy.ok():
        rclpy.spin_once(planner, timeout_sec=0.2)
planner.destroy_node()
rclpy.try_shutdown()
