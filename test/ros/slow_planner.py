"""A consumer that is too slow: half a second for each anomaly mask, reliable, as long as it is let."""

import signal
import sys
import threading
import time

import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image

stopped = threading.Event()
signal.signal(signal.SIGTERM, lambda _number, _frame: stopped.set())
# A signal that comes just before rclpy.spin waits does not wake it.
rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
planner = Node("slow_planner")
planner.create_subscription(
    Image,
    f"/perception_node{sys.argv[1]}/output/anomaly/mask",
    lambda message: time.sleep(0.5),
    QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE),
)
while not stopped.is_set():
    rclpy.spin_once(planner, timeout_sec=0.2)
planner.destroy_node()
rclpy.shutdown()
