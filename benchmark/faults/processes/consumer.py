"""A consumer in a process of its own: subscribes to what the campaign itself does not read, and writes a line for each
message: topic, seconds and nanoseconds of the stamp, and `finite` or `not-finite` for what it holds.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

import numpy as np
import rclpy
from nav_msgs.msg import OccupancyGrid
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, PointCloud2

from benchmark.faults.frames import CAMERAS
from ros_ood_perception.obstacles.point_cloud import POINT

TOPICS = {
    "output/anomaly/obstacles": PointCloud2,
    "output/ground/free": PointCloud2,
    "output/ground/grid": OccupancyGrid,
    "debug/overlay": Image,
}
QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)


def is_finite(message: Any) -> bool:
    """Whether the numbers of a cloud are."""
    if not isinstance(message, PointCloud2):
        return True
    points = np.frombuffer(message.data, POINT)
    return all(bool(np.isfinite(points[name]).all()) for name in ("x", "y", "z", "intensity"))


def main() -> None:
    """Command line; runs until it is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--node", required=True)
    parser.add_argument("--log", required=True)
    options = parser.parse_args()
    log = os.open(options.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    rclpy.init()
    node = Node(f"consumer_{os.getpid()}")

    def subscribe(topic: str, kind: type[Any]) -> None:
        def on_message(message: Any) -> None:
            stamp = message.header.stamp
            word = "finite" if is_finite(message) else "not-finite"
            os.write(log, f"{topic} {stamp.sec} {stamp.nanosec} {word}\n".encode())

        node.create_subscription(kind, topic, on_message, QOS)

    for camera in CAMERAS:
        for topic, kind in TOPICS.items():
            subscribe(f"{options.node}/{camera}/{topic}", kind)
    rclpy.spin(node)


if __name__ == "__main__":
    main()
