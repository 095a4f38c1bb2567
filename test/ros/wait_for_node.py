"""Exit with 0 once a node of the given name is on the graph, with 1 when there is none within 30 seconds."""

import sys
import time

import rclpy
from rclpy.node import Node

rclpy.init()
watcher = Node("watcher")
deadline = time.monotonic() + 30
while sys.argv[1] not in watcher.get_node_names() and time.monotonic() < deadline:
    rclpy.spin_once(watcher, timeout_sec=0.1)
found = sys.argv[1] in watcher.get_node_names()
rclpy.shutdown()
sys.exit(not found)
